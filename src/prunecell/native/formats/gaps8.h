// gaps8: how many columns were skipped since the entry before (or since column -1), uint8. Entries of value 0 bridge a
// gap that is longer than 255.
#pragma once

#include "columns16.h"

struct Gaps8 {
    static constexpr int32_t WRONG = 3;
    static constexpr int64_t ANY_COLUMN = 0, READABLE = 0;
    typedef int32_t Column;

    // The gaps of a row do not lead beyond n_columns.
    static bool row_is_sound(const Matrix& m, int32_t, int64_t begin, int64_t end) {
        const auto* gap = static_cast<const uint8_t*>(m.indices);
        int64_t width = end - begin;
        for (int64_t k = begin; k < end; k++) width += gap[k];
        return width <= m.n_columns;
    }

    // Columns ascend, so that the last of a row tells whether all are legal; if not, they become 0.
    template <class Rows>
    static bool decode(const Matrix& m, const Rows& rows, int32_t r0, int32_t r1, Column* to) {
        const auto* gap = static_cast<const uint8_t*>(m.indices);
        bool sound = true;
        for (int32_t r = r0; r < r1; r++) {
            const int64_t begin = rows.begin(r), end = rows.begin(r + 1);
            int64_t column = -1;
            for (int64_t k = begin; k < end; k++) *to++ = static_cast<Column>(column += gap[k] + 1);
            if (column < m.n_columns) continue;
            memset(to - (end - begin), 0, (end - begin) * sizeof(*to));
            sound = false;
        }
        return sound;
    }

    // Walks the gaps of a row from the column before, and stays there where they lead outside.
    struct Cursor {
        typedef bool Seen;  // a gap that leads outside
        const float* x;
        int64_t n, before = -1;
        Seen seen;
        Cursor(const Matrix& m, const DenseVector& vector, Seen before_row)
            : x(vector.at), n(m.n_columns), seen(before_row) {}
        Seen seen_until_now() const { return seen; }
        static bool all_below(int64_t, Seen seen) { return !seen; }

        INLINED Floats inputs(const uint8_t* gap, int n_left) {
            uint16_t walked[LANES];
            walk(gap, n_left, walked);
            const int64_t last = before + walked[LANES - 1];
            if (__builtin_expect(last >= n, false)) {
                seen = true;
                return Floats{};
            }
            const float* from = x + before;
            before = last;
            return inputs_of(from, walked);
        }

        INLINED Pair pair(const uint8_t* gap) {
            Floats even = inputs(gap, LANES);
            return {even, inputs(gap + LANES, LANES)};
        }
    };

    // Columns ascend, so that the last of a row tells whether all were legal. The column before stays below 2^31 + 2^14,
    // from where it cannot come round to 0.
    struct GatheringCursor {
        typedef bool Seen;  // a gap that leads outside
        const float* x;
        int64_t n;
        Words before = ~Words{};  // the same in every lane
        Seen seen;
        GatheringCursor(const Matrix& m, const DenseVector& vector, Seen before_row)
            : x(vector.at), n(m.n_columns), seen(before_row) {}
        Seen seen_until_now() const { return seen | (before[0] + 1 > n); }
        static bool all_below(int64_t, Seen seen) { return !seen; }

        INLINED Floats inputs(const uint8_t* gap, int n_left) {
            Ints walked = running_sum((widen(gap) + 1) & first_lanes(n_left));
            Words columns = before + same_bits<Words>(walked);
            before += same_bits<Words>(last_everywhere(walked));  // not of `columns`: the next vector waits for it
            return gather(x, columns, n);
        }

        INLINED Pair pair(const uint8_t* gap) {
            Floats even = inputs(gap, LANES), odd = inputs(gap + LANES, LANES);
            before = lower(before, (uint32_t{1} << 31) - Words{});
            return {even, odd};
        }
    };

    using Dot = IndexedDot<uint8_t, std::conditional_t<HAS_GATHER, GatheringCursor, Cursor>>;
};
