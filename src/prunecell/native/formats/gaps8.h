// gaps8: how many columns were skipped since the entry before (or since column -1), uint8. Entries of value 0 bridge a
// gap that is longer than 255.
#pragma once

#include "columns16.h"

struct Gaps8 {
    static constexpr int32_t WRONG = 3;
    static constexpr bool IS_PLAIN = false;

    // The gaps of a row do not lead beyond n_columns.
    static bool is_sound(const Matrix& m) {
        const auto* gap = static_cast<const uint8_t*>(m.indices);
        bool sound = true;
        for (int32_t r = 0; r < m.n_rows; r++) {
            int64_t begin = m.starts[r], end = m.starts[r + 1], width = end - begin;
            for (int64_t k = begin; k < end; k++) width += gap[k];
            sound &= width <= m.n_columns;
        }
        return sound;
    }

    template <class Map>
    static INLINED void decode(const Matrix& m, int32_t r0, int32_t r1, Map map, int32_t* to) {
        const auto* gap = static_cast<const uint8_t*>(m.indices);
        for (int32_t r = r0; r < r1; r++) {
            int32_t column = -1;
            for (int64_t k = m.starts[r]; k < m.starts[r + 1]; k++) *to++ = map(column += gap[k] + 1);
        }
    }

    template <class Value>
    static INLINED float dot(const Matrix& m, int32_t r, const DenseVector& x) {
        if constexpr (HAS_GATHER)
            return dot_of_row<Value, uint8_t>(m, r, GatheringCursor{}, x.at);
        else
            return dot_of_row<Value, uint8_t>(m, r, Cursor{}, x.at);
    }

    // Walks the gaps of a row from the column before.
    struct Cursor {
        int32_t before = -1;
        INLINED Floats inputs(const float* x, const uint8_t* gap, int n) {
            uint16_t walked[LANES];
            walk(gap, n, walked);
            Floats values = Columns16::Cursor{}.inputs(x + before, walked, n);
            before += walked[LANES - 1];
            return values;
        }
    };

    struct GatheringCursor {
        Ints before = Ints{} - 1;  // the same in every lane
        INLINED Floats inputs(const float* x, const uint8_t* gap, int n) {
            Ints columns = before + running_sum(widen(gap) + 1);
            before = last_everywhere(columns);
            return gather(x, columns & first_lanes(n));
        }
    };
};
