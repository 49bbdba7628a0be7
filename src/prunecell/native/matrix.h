// A sparse matrix as it is stored.
#pragma once

#include "language.h"

// The kept entries row by row, columns ascending. structs.py has the same fields in the same order.
struct Matrix {
    const int32_t* starts;  // n_rows + 1: the entries [starts[r], starts[r + 1]) are row r's
    const void* indices;    // where the entries are, as `format` writes it
    const void* values;     // one an entry, of `value_type`
    const float* scales;    // n_rows factors of the values, or null for ones
    int64_t n_entries;
    int32_t n_rows, n_columns;
    int32_t format, value_type;  // codes: see formats/formats.h and values.h
};

static bool starts_are_sound(const Matrix& m) {
    if (m.starts[0] != 0 || m.starts[m.n_rows] != m.n_entries) return false;
    bool sound = true;
    for (int32_t r = 0; r < m.n_rows; r++) sound &= m.starts[r] <= m.starts[r + 1];
    return sound;
}
