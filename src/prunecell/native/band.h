// A band: the rows of a matrix that are decoded at once, whatever their format and value type.
#pragma once

#include "formats/formats.h"
#include "scratch.h"

// A band has so few rows that their entries, as offsets and floats, and their outputs for a block stay in a usual
// second-level cache (512 KiB each). Where nothing but columns of 16 bits is copied there may be more entries. Where each
// is used for one block only there are fewer, so that what was decoded is still in the first-level cache.
constexpr int64_t BAND_ENTRIES = 1 << 16, COPIED_ENTRIES = 1 << 18, ENTRIES_OF_ONE_BLOCK = 1 << 12, BAND_ROWS = 2048;

// The type of a format's decoded columns.
template <class Trait>
constexpr typename Trait::Column column_of(Trait) {
    return {};
}

// Where the rows [first, end) begin: bounded by for_rows and copied, because a product reads it often.
struct Rows {
    int32_t first;
    Scratch<int32_t> begins;
    int64_t longest = 0;
    bool sound = true;

    Rows(const Matrix& m, int32_t r0, int32_t r1) : first(r0), begins(int64_t{r1} - r0 + 1) {
        if (!begins.at) return;
        begins.at[0] = 0;
        sound = for_rows(m, r0, r1, [this](int32_t r, int64_t begin, int64_t end) INLINED {
            begins.at[r - first] = static_cast<int32_t>(begin), begins.at[r - first + 1] = static_cast<int32_t>(end);
            longest = larger(longest, end - begin);
        });
    }

    int64_t begin(int32_t row) const { return begins.at[row - first]; }
};

// The rows [first, end) ready for the product: values as floats, columns inside of the matrix. With a table,
// table[column] stands for a column.
struct Band {
    const Matrix& matrix;
    const Rows& rows;
    const int32_t* table;
    bool has_narrow_columns, values_as_stored;
    int64_t most_entries;
    Scratch<uint16_t> narrow;  // columns that the format stores as such
    Scratch<int32_t> wide;     // the other columns, and what a table gives
    Scratch<float> converted;
    const float* values = nullptr;
    int32_t first = 0, end = 0;
    bool sound = true;

    Band(const Matrix& m, const Rows& of, const int32_t* table_of_columns, bool of_one_block)
        : matrix(m),
          rows(of),
          table(table_of_columns),
          has_narrow_columns(with_format(m.format, [](auto format) { return sizeof(column_of(format)) == 2; })),
          values_as_stored(with_value_type(m.value_type, [](auto value) { return value.IS_FLOAT; })),
          most_entries(larger(rows.longest, smaller(m.n_entries, usual_entries(of_one_block)))),
          narrow(has_narrow_columns ? most_entries : 0),
          wide(has_narrow_columns && !table ? 0 : most_entries + MOST_BEYOND),
          converted(values_as_stored ? 0 : most_entries) {}

    int64_t usual_entries(bool of_one_block) const {
        if (of_one_block) return larger(ENTRIES_OF_ONE_BLOCK, rows.longest * LANES);
        return has_narrow_columns && values_as_stored && !table ? COPIED_ENTRIES : BAND_ENTRIES;
    }

    bool has_memory() const { return narrow.at && wide.at && converted.at; }

    // Where a row's entries begin in the band.
    int64_t entry(int32_t row) const { return rows.begin(row) - rows.begin(first); }

    uint16_t* columns(uint16_t) const { return narrow.at; }
    int32_t* columns(int32_t) const { return wide.at; }

    // Reads the rows from r0 on, up to `stop` or as many as a band has; at least one.
    void read(int32_t r0, int32_t stop) {
        first = r0, end = r0 + 1, stop = smaller(stop, r0 + BAND_ROWS);
        while (end < stop && entry(end + 1) <= most_entries) end++;
        if (end < stop && end - first > LANES) end -= (end - first) % LANES;  // as store_tile transposes whole squares
        read_columns();
        read_values();
    }

    void read_columns() {
        with_format(matrix.format, [this](auto format) {
            auto* to = columns(column_of(format));
            sound &= format.decode(matrix, rows, first, end, to);
            if (!table) return;
            const int64_t n = entry(end);
            for (int64_t k = 0; k < n; k++) wide.at[k] = table[to[k]];
        });
    }

    void read_values() {
        with_value_type(matrix.value_type, [this](auto value) {
            using Value = decltype(value);
            const auto* stored = static_cast<const typename Value::Stored*>(matrix.values) + rows.begin(first);
            if constexpr (Value::IS_FLOAT)
                values = stored;
            else
                decode_values<Value>(stored, entry(end), converted.at), values = converted.at;
        });
    }
};
