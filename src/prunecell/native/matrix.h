// A sparse matrix as it is stored.
//
// Nothing of what a matrix says is believed: a file may lie, and memory may be written to at any time, by another thread
// too. So a number is read once and bounded before it is used as an index, which costs next to nothing, and what had to
// be bounded is reported as damage.
#pragma once

#include "language.h"

// The kept entries row by row, columns ascending. structs.py has the same fields in the same order. The caller vouches
// for the sizes of the arrays.
struct Matrix {
    const int32_t* starts;  // n_rows + 1: the entries [starts[r], starts[r + 1]) are row r's
    const void* indices;    // where the entries are, as `format` writes it
    const void* values;     // one an entry, of `value_type`
    const float* scales;    // n_rows factors of the values, or null for ones
    int64_t n_entries;
    int32_t n_rows, n_columns;
    int32_t format, value_type;  // codes: see formats/formats.h and values.h
};

// What a kernel returns, beside the WRONG of a format.
enum Outcome : int32_t { NO_MEMORY = -1, DONE = 0, WRONG_STARTS = 1 };

// task(r, begin, end) with the entries [begin, end) of every row in [r0, r1). They lie within the matrix, and no row
// begins before the end of another, whatever stands in `starts`. Returns whether that is what stands there.
template <class Task>
INLINE bool for_rows(const Matrix& m, int32_t r0, int32_t r1, Task task) {
    int64_t stored = read_once(m.starts + r0), begin = larger(0, smaller(stored, m.n_entries));
    bool sound = stored == begin && (r0 > 0 || begin == 0);
    for (int32_t r = r0; r < r1; r++) {
        stored = read_once(m.starts + r + 1);
        int64_t end = larger(begin, smaller(stored, m.n_entries));
        sound &= stored == end;
        task(r, begin, end);
        begin = end;
    }
    return sound && (r1 < m.n_rows || begin == m.n_entries);
}
