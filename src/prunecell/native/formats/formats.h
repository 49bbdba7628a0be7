// The stored formats of a sparse matrix: how its `indices` tell where the entries are. Each is one trait in a file of
// its own:
//
//   WRONG         what pc_what_is_wrong says and the products return where the indices are not sound
//   ANY_COLUMN    what every number that can stand in the indices is smaller than, where they are columns; else 0
//   READABLE      of how many elements a dense vector must be at least, for Dot
//   Column        how decoded columns are written: uint16_t or int32_t
//   row_is_sound  whether the indices of row r, whose entries are [begin, end), lead to columns and to its values only
//   decode        writes the column of every entry of the rows [r0, r1), inside of n_columns whatever is stored, and up
//                 to MOST_BEYOND more; returns whether all of them were sound
//   Dot           rows times one dense vector: row<Value>(r, begin, end), and whether all of them were sound
#pragma once

#include "bitmask.h"
#include "columns16.h"
#include "gaps8.h"

constexpr int64_t MOST_BEYOND = 64;

enum Format : int32_t { COLUMNS16 = 0, GAPS8 = 1, BITMASK = 2 };

// task(trait) with the trait of a format; the only place that knows which code means which.
template <class Task>
INLINE auto with_format(int32_t format, Task task) {
    switch (format) {
        case COLUMNS16: return task(Columns16{});
        case GAPS8: return task(Gaps8{});
        default: return task(Bitmask{});
    }
}

// What a product returns where indices are not sound.
static int32_t wrong_indices(const Matrix& m) {
    return with_format(m.format, [](auto format) -> int32_t { return format.WRONG; });
}

// 0 where every index leads to a column and to a value of its row; else what is wrong: WRONG_STARTS, or the WRONG of the
// format. The caller checks the sizes of the arrays.
EXPORT int32_t pc_what_is_wrong(const Matrix* m) {
    return with_format(m->format, [m](auto format) -> int32_t {
        bool sound = true;
        bool starts_are_sound = for_rows(*m, 0, m->n_rows, [&](int32_t r, int64_t begin, int64_t end) INLINED {
            sound &= format.row_is_sound(*m, r, begin, end);
        });
        return !starts_are_sound ? WRONG_STARTS : sound ? DONE : format.WRONG;
    });
}
