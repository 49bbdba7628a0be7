// columns16: the column of every entry, uint16.
#pragma once

#include "dot.h"

struct Columns16 {
    static constexpr int32_t WRONG = 2;
    static constexpr bool IS_PLAIN = true;

    // The columns of a row ascend and are smaller than n_columns.
    static bool is_sound(const Matrix& m) {
        const auto* column = static_cast<const uint16_t*>(m.indices);
        bool sound = true;
        for (int32_t r = 0; r < m.n_rows; r++) {
            int64_t begin = m.starts[r], end = m.starts[r + 1];
            for (int64_t k = begin + 1; k < end; k++) sound &= column[k - 1] < column[k];
            if (begin < end) sound &= column[end - 1] < m.n_columns;
        }
        return sound;
    }

    template <class Map>
    static INLINED void decode(const Matrix& m, int32_t r0, int32_t r1, Map map, int32_t* to) {
        const uint16_t* column = static_cast<const uint16_t*>(m.indices) + m.starts[r0];
        int64_t n = m.starts[r1] - m.starts[r0];
        for (int64_t k = 0; k < n; k++) to[k] = map(column[k]);
    }

    template <class Value>
    static INLINED float dot(const Matrix& m, int32_t r, const DenseVector& x) {
        return dot_of_row<Value, uint16_t>(m, r, Cursor{}, x.at);
    }

    // Without a gather instruction two columns come in one load, because the loop waits for loads. Lanes after the
    // first n then read the columns of later rows, which are legal too.
    struct Cursor {
        INLINED Floats inputs(const float* x, const uint16_t* column, int n) const {
            if constexpr (HAS_GATHER) return gather(x, widen(column) & first_lanes(n));
            Floats values{};
            for (int i = 0; i < LANES; i += 2) {
                uint32_t two;
                memcpy(&two, column + i, sizeof(two));
                values[i] = x[two & 0xffff], values[i + 1] = x[two >> 16];
            }
            return values;
        }
    };
};
