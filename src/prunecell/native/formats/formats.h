// The stored formats of a sparse matrix: how its `indices` tell where the entries are. Each is one trait in a file of
// its own:
//
//   WRONG     what pc_what_is_wrong says where the indices are not sound
//   IS_PLAIN  whether the product can read the indices as columns, as they are
//   is_sound  whether no index leads outside of the matrix or of the values; `starts` are sound already
//   decode    writes map(column) of every entry of the rows [r0, r1)
//   dot       row r times one dense vector
#pragma once

#include "bitmask.h"
#include "columns16.h"
#include "gaps8.h"

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

// 0 where no kernel can read outside of the matrix or of an input of n_columns features; else what is wrong: 1 for the
// starts, or the WRONG of the format. The caller checks the sizes of the arrays.
EXPORT int32_t pc_what_is_wrong(const Matrix* m) {
    if (!starts_are_sound(*m)) return 1;
    return with_format(m->format, [m](auto format) -> int32_t { return format.is_sound(*m) ? 0 : format.WRONG; });
}
