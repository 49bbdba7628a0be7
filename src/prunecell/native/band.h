// A band: the rows of a matrix that are decoded at once, whatever their format and value type.
#pragma once

#include "formats/formats.h"
#include "scratch.h"

// A band has so few rows that their entries, as offsets and floats, and their outputs for a block stay in a usual
// second-level cache (512 KiB each).
constexpr int64_t BAND_ENTRIES = 1 << 16, BAND_ROWS = 2048;

// Entries that a band may have.
static int64_t most_entries(const Matrix& m) {
    int32_t longest = 0;
    for (int32_t r = 0; r < m.n_rows; r++) longest = larger(longest, m.starts[r + 1] - m.starts[r]);
    return larger(smaller(BAND_ENTRIES, m.n_entries), longest);
}

// The rows [first, end) ready for the product: values as floats; columns as stored where the format is plain, else
// decoded. With a table, table[column] stands for a column.
struct Band {
    const Matrix& matrix;
    const int32_t* table;
    bool columns_as_stored, values_as_stored;
    Scratch<int32_t> decoded;
    Scratch<float> converted;
    const uint16_t* stored_columns = nullptr;  // where columns_as_stored
    const int32_t* columns = nullptr;          // elsewhere
    const float* values = nullptr;
    int32_t first = 0, end = 0;

    Band(const Matrix& m, const int32_t* table_of_columns)
        : matrix(m),
          table(table_of_columns),
          columns_as_stored(!table && with_format(m.format, [](auto format) { return format.IS_PLAIN; })),
          values_as_stored(with_value_type(m.value_type, [](auto value) { return value.IS_FLOAT; })),
          decoded(columns_as_stored ? 0 : most_entries(m)),
          converted(values_as_stored ? 0 : most_entries(m)) {}

    bool has_memory() const { return decoded.at && converted.at; }

    // Where a row's entries begin in the band.
    int64_t entry(int32_t row) const { return matrix.starts[row] - matrix.starts[first]; }

    // Reads the rows from r0 on, up to `stop` or as many as a band has; at least one.
    void read(int32_t r0, int32_t stop) {
        bool is_any_size = columns_as_stored && values_as_stored;
        first = r0, end = r0 + 1, stop = smaller(stop, r0 + BAND_ROWS);
        while (end < stop && (is_any_size || entry(end + 1) <= BAND_ENTRIES)) end++;
        read_columns();
        read_values();
    }

    void read_columns() {
        stored_columns = static_cast<const uint16_t*>(matrix.indices) + matrix.starts[first];
        columns = decoded.at;
        if (columns_as_stored) return;
        with_format(matrix.format, [this](auto format) {
            if (table)
                format.decode(matrix, first, end, [of = table](int64_t column) { return of[column]; }, decoded.at);
            else
                format.decode(matrix, first, end, [](int32_t column) { return column; }, decoded.at);
        });
    }

    void read_values() {
        with_value_type(matrix.value_type, [this](auto value) {
            using Value = decltype(value);
            const auto* stored = static_cast<const typename Value::Stored*>(matrix.values) + matrix.starts[first];
            if constexpr (Value::IS_FLOAT)
                values = stored;
            else
                decode_values<Value>(stored, entry(end), converted.at), values = converted.at;
        });
    }
};
