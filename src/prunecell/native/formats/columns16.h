// columns16: the column of every entry, uint16.
#pragma once

#include "dot.h"

// The largest of the columns that were seen in each lane.
template <class Vector>
struct Largest {
    Vector lanes{};
    INLINED void add(Vector columns) { lanes = higher(lanes, columns); }
    bool is_below(int64_t n) const {
        if (n == 0) return true;  // there are no entries then, as the products see to
        bool below = true;
        for (size_t i = 0; i < sizeof(Vector) / sizeof(lanes[0]); i++) below &= lanes[i] < n;
        return below;
    }
};

// x[column] of LANES columns, of which two come in one load, because the loop waits for loads.
INLINE Floats inputs_of(const float* x, const uint16_t* column) {
    Floats values{};
    for (int i = 0; i < LANES; i += 2) {
        uint32_t two;
        memcpy(&two, column + i, sizeof(two));
        values[i] = x[two & 0xffff], values[i + 1] = x[two >> 16];
    }
    return values;
}

struct Columns16 {
    static constexpr int32_t WRONG = 2;
    static constexpr int64_t ANY_COLUMN = 1 << 16, READABLE = HAS_GATHER ? 0 : ANY_COLUMN;
    typedef uint16_t Column;

    typedef uint16_t Columns VECTOR(uint16_t, 2 * LANES);

    // The columns of a row ascend and are smaller than n_columns.
    static bool row_is_sound(const Matrix& m, int32_t, int64_t begin, int64_t end) {
        const auto* column = static_cast<const uint16_t*>(m.indices);
        bool sound = begin == end || column[end - 1] < m.n_columns;
        for (int64_t k = begin + 1; k < end; k++) sound &= column[k - 1] < column[k];
        return sound;
    }

    // Columns that are copied, each bounded by the last of the matrix.
    struct Bounded {
        Columns last;
        Largest<Columns> seen{};
        explicit Bounded(const Matrix& m) : last(static_cast<uint16_t>(smaller(m.n_columns - 1, 0xffff)) - Columns{}) {}

        INLINED void copy(const uint16_t* from, uint16_t* to) {
            Columns columns = settled(load<Columns>(from));
            seen.add(columns);
            store(to, lower(columns, last));
        }

        INLINED void copy(const uint16_t* from, int64_t n, uint16_t* to) {
            for (; n >= 2 * LANES; n -= 2 * LANES, from += 2 * LANES, to += 2 * LANES) copy(from, to);
            if (n == 0) return;
            uint16_t rest[2 * LANES] = {};
            memcpy(rest, from, n * sizeof(uint16_t));
            copy(rest, rest);
            memcpy(to, rest, n * sizeof(uint16_t));
        }
    };

    template <class Rows>
    static bool decode(const Matrix& m, const Rows& rows, int32_t r0, int32_t r1, Column* to) {
        Bounded bounded(m);
        bounded.copy(static_cast<const Column*>(m.indices) + rows.begin(r0), rows.begin(r1) - rows.begin(r0), to);
        return bounded.seen.is_below(m.n_columns);
    }

    // Whether n columns are smaller than n_columns. Another thread may write to them before they are used: this finds
    // damage, but makes nothing safe.
    static bool are_sound(const Matrix& m, const Column* column, int64_t n) {
        constexpr int AT_ONCE = 2 * LANES;
        Largest<Columns> even, odd;
        for (; n >= 2 * AT_ONCE; n -= 2 * AT_ONCE, column += 2 * AT_ONCE) {
            even.add(load<Columns>(column));
            odd.add(load<Columns>(column + AT_ONCE));
        }
        Column rest[2 * AT_ONCE] = {};
        if (n > 0) memcpy(rest, column, n * sizeof(Column));
        even.add(load<Columns>(rest));
        odd.add(load<Columns>(rest + AT_ONCE));
        even.add(odd.lanes);
        return even.is_below(m.n_columns);
    }

    // Where there is no gather instruction, the vector is so long that every column lies within it.
    struct Cursor {
        typedef Largest<Columns> Seen;
        const float* x;
        Seen seen;
        Cursor(const Matrix&, const DenseVector& vector, const Seen& before_row) : x(vector.at), seen(before_row) {}
        const Seen& seen_until_now() const { return seen; }
        static bool all_below(int64_t n, const Seen& seen) { return seen.is_below(n); }

        // Lanes after the first n_left have the columns of later rows, which must be legal too.
        INLINED Floats inputs(const uint16_t* column, int) {
            uint16_t columns[2 * LANES] = {};
            memcpy(columns, column, LANES * sizeof(uint16_t));
            seen.add(load<Columns>(columns));
            return inputs_of(x, column);
        }

        INLINED Pair pair(const uint16_t* column) {
            seen.add(load<Columns>(column));
            return {inputs_of(x, column), inputs_of(x, column + LANES)};
        }
    };

    // Where there is one, it leaves out what lies outside.
    struct GatheringCursor {
        typedef Largest<Words> Seen;
        const float* x;
        int64_t n;
        Seen seen;
        GatheringCursor(const Matrix& m, const DenseVector& vector, const Seen& before_row)
            : x(vector.at), n(m.n_columns), seen(before_row) {}
        const Seen& seen_until_now() const { return seen; }
        static bool all_below(int64_t n, const Seen& seen) { return seen.is_below(n); }

        // Lanes after the first n_left have the columns of later rows, which must be legal too.
        INLINED Floats inputs(const uint16_t* column, int) {
            Words columns = settled(same_bits<Words>(widen(column)));
            seen.add(columns);
            return gather(x, columns, n);
        }

        INLINED Pair pair(const uint16_t* column) {
            Floats even = inputs(column, LANES);
            return {even, inputs(column + LANES, LANES)};
        }
    };

    using Dot = IndexedDot<uint16_t, std::conditional_t<HAS_GATHER, GatheringCursor, Cursor>>;
};
