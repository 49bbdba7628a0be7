// Some rows of a matrix, read once: columns and values of every entry, as a packed form takes them.
#pragma once

#include "../band.h"

// The rows [r0, r1): entry k of row r is at begin(r) + k. `sound` is whether the columns of every row ascend and are
// smaller than n_columns; else they are not to be used.
struct Decoded {
    using Value = float;

    const Rows& rows;
    int32_t first;
    int64_t n_entries;
    Scratch<int32_t> columns;
    Scratch<float> values;
    bool sound = true;

    Decoded(const Matrix& m, const Rows& of, int32_t r0, int32_t r1)
        : rows(of),
          first(r0),
          n_entries(of.begin(r1) - of.begin(r0)),
          columns(n_entries + MOST_BEYOND),
          values(n_entries) {
        if (!has_memory()) return;
        with_format(m.format, [&](auto format) { decode(format, m, r0, r1); });
        for (int32_t r = r0; r < r1; r++)
            for (int64_t k = begin(r) + 1; k < begin(r + 1); k++) sound &= columns.at[k - 1] < columns.at[k];
        with_value_type(m.value_type, [&](auto value) {
            using Value = decltype(value);
            decode_values<Value>(static_cast<const typename Value::Stored*>(m.values) + rows.begin(r0), n_entries,
                                 values.at);
        });
    }

    template <class Format>
    void decode(Format format, const Matrix& m, int32_t r0, int32_t r1) {
        using Column = typename Format::Column;
        if constexpr (sizeof(Column) == sizeof(int32_t)) {
            sound &= format.decode(m, rows, r0, r1, columns.at);
        } else {
            Scratch<Column> narrow(n_entries + MOST_BEYOND);
            if (!(sound &= narrow.at != nullptr)) return;
            sound &= format.decode(m, rows, r0, r1, narrow.at);
            for (int64_t k = 0; k < n_entries; k++) columns.at[k] = narrow.at[k];
        }
    }

    bool has_memory() const { return columns.at && values.at; }
    int64_t begin(int32_t row) const { return rows.begin(row) - rows.begin(first); }
    int32_t length(int32_t row) const { return static_cast<int32_t>(begin(row + 1) - begin(row)); }
};

// Decodes a matrix some rows at a time, a band's entries or one row: task(decoded, r0, r1), which returns an Outcome or a
// WRONG. So little memory is needed beside what is made of them. Returns the first outcome that is not DONE.
template <class Task>
static int32_t for_decoded(const Matrix& m, const Rows& rows, Task task) {
    for (int32_t r0 = 0, r1; r0 < m.n_rows; r0 = r1) {
        for (r1 = r0 + 1; r1 < m.n_rows && rows.begin(r1 + 1) - rows.begin(r0) <= BAND_ENTRIES; r1++) {}
        const Decoded decoded(m, rows, r0, r1);
        if (!decoded.has_memory()) return NO_MEMORY;
        if (!decoded.sound) return wrong_indices(m);
        if (int32_t outcome = task(decoded, r0, r1)) return outcome;
    }
    return DONE;
}
