// A band: the rows of a matrix that are decoded at once, whatever their format and value type.
#pragma once

#include "formats/formats.h"
#include "scratch.h"

// A band has so few rows that their entries, as offsets and floats, and their outputs for a block stay in a usual
// second-level cache (512 KiB each). Where nothing but columns of 16 bits is copied there may be more entries. Where
// each is used for one block only there are fewer, so that columns of 16 bits are still in the first-level cache.
constexpr int64_t BAND_ENTRIES = 1 << 16, COPIED_ENTRIES = 1 << 18, ENTRIES_OF_ONE_BLOCK = 1 << 14, BAND_ROWS = 2048;

// The type of a format's decoded columns.
template <class Trait>
constexpr typename Trait::Column column_of(Trait) {
    return {};
}

// Where the rows [first, end) begin: copied, because a product reads it often, and then checked. It is not to be used
// unless it is sound.
struct Rows {
    int32_t first;
    Scratch<int32_t> begins;
    int64_t longest = 0;
    bool sound = true;

    Rows(const Matrix& m, int32_t r0, int32_t r1) : first(r0), begins(int64_t{r1} - r0 + 1) {
        if (!begins.at) return;
        const int32_t *begin = begins.at, n = r1 - r0;
        copy_once(m.starts + r0, n + 1, begins.at);
        bool descend = false;
        int32_t most = 0;
        for (int32_t r = 0; r < n; r++) {
            descend |= begin[r + 1] < begin[r];
            auto length = static_cast<int32_t>(static_cast<uint32_t>(begin[r + 1]) - static_cast<uint32_t>(begin[r]));
            most = most > length ? most : length;
        }
        longest = most;
        sound = !descend && (r0 == 0 ? begin[0] == 0 : begin[0] >= 0) &&
                (r1 == m.n_rows ? begin[n] == m.n_entries : begin[n] <= m.n_entries);
    }

    int64_t begin(int32_t row) const { return begins.at[row - first]; }
};

// The rows [first, end) ready for the product: values as floats, columns that lead to a place in the panel. With a
// table, table[column] stands for a column.
//
// Columns are copied and bounded. But where the panel has a place for every number that can stand there, they are read
// as they are stored: wherever they lead then, it is not outside.
struct Band {
    const Matrix& matrix;
    const Rows& rows;
    const int32_t* table;
    bool has_narrow_columns, columns_as_stored, values_as_stored;
    int64_t most_entries;
    Scratch<uint16_t> narrow;  // decoded columns of a format whose columns have this type
    Scratch<int32_t> wide;     // the other columns, and what a table gives
    Scratch<float> converted;
    const uint16_t* narrow_columns;  // `narrow`, or as they are stored
    const int32_t* wide_columns;
    const float* values = nullptr;
    int32_t first = 0, end = 0;
    bool sound = true;

    Band(const Matrix& m, const Rows& of, const int32_t* table_of_columns, int64_t n_readable_columns,
         bool of_one_block)
        : matrix(m),
          rows(of),
          table(table_of_columns),
          has_narrow_columns(with_format(m.format, [](auto format) { return sizeof(column_of(format)) == 2; })),
          columns_as_stored(!table && with_format(m.format, [=](auto format) {
              return format.ANY_COLUMN > 0 && format.ANY_COLUMN <= n_readable_columns;
          })),
          values_as_stored(with_value_type(m.value_type, [](auto value) { return value.IS_FLOAT; })),
          most_entries(larger(rows.longest, smaller(m.n_entries, usual_entries(of_one_block)))),
          narrow(has_narrow_columns && !columns_as_stored ? most_entries : 0),
          wide(has_narrow_columns && !table ? 0 : most_entries + MOST_BEYOND),
          converted(values_as_stored ? 0 : most_entries),
          narrow_columns(narrow.at),
          wide_columns(wide.at) {}

    int64_t usual_entries(bool of_one_block) const {
        if (columns_as_stored) return values_as_stored ? matrix.n_entries : BAND_ENTRIES;
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
        first = r0, stop = smaller(stop, r0 + BAND_ROWS), end = entry(stop) <= most_entries ? stop : r0 + 1;
        while (end < stop && entry(end + 1) <= most_entries) end++;
        if (end < stop && end - first > LANES) end -= (end - first) % LANES;  // as store_tile transposes whole squares
        read_columns();
        read_values();
    }

    void read_columns() {
        if (columns_as_stored) {
            narrow_columns = static_cast<const uint16_t*>(matrix.indices) + rows.begin(first);
            sound &= Columns16::are_sound(matrix, narrow_columns, entry(end));
            return;
        }
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
