// A row of a sparse matrix times one dense vector: what the formats that store an index for every entry share.
#pragma once

#include "../matrix.h"
#include "../scratch.h"
#include "../values.h"

// The dense vector of n elements, copied where more must be readable, whatever stands there. Its tail holds the elements
// after the last whole vector, with zeros behind them.
struct DenseVector {
    Scratch<float> copy;
    const float* at;
    Padded<float> tail;
    DenseVector(const float* x, int64_t n, int64_t n_readable)
        : copy(n < n_readable ? n_readable : 0), at(n < n_readable ? copy.at : x), tail(x + n / LANES * LANES, n % LANES) {
        if (n > 0 && at && at == copy.at) memcpy(copy.at, x, n * sizeof(float));
    }
};

// Two vectors.
struct Pair {
    Floats even, odd;
};

// Prefetches entries that are AHEAD of these: a matrix that is in no cache then arrives in half the time.
constexpr int64_t AHEAD = 512;

template <class Index, class Stored>
INLINE void prefetch_ahead(const Index* index, const Stored* value, int64_t n) {
    for (int64_t i = 0; i < n * (int64_t)sizeof(Stored); i += CACHE_LINE)
        __builtin_prefetch(reinterpret_cast<const char*>(value + AHEAD) + i);
    __builtin_prefetch(index + AHEAD);
}

// Rows times one dense vector, where the indices are one `Index` an entry. The cursor turns indices into elements of x,
// and into 0 where they lead outside:
//
//   Cursor(m, x, seen)     at the begin of a row; `seen` is what the rows before it told of their columns
//   seen_until_now()       the same at its end, with its own
//   all_below(n, seen)     whether all columns were smaller than n
//   inputs(index, n_left)  x[column] of the next LANES entries, of which the first n_left count
//   pair(index)            of the next 2 * LANES, which all count
template <class Index, class Cursor>
struct IndexedDot {
    const Matrix& m;
    const DenseVector& x;
    typename Cursor::Seen seen{};
    IndexedDot(const Matrix& matrix, const DenseVector& vector) : m(matrix), x(vector) {}

    bool is_sound() const { return Cursor::all_below(m.n_columns, seen); }

    // The sum of value * x[column] over the entries [k, end).
    template <class Value>
    INLINED float row(int32_t, int64_t k, int64_t end) {
        using Stored = typename Value::Stored;
        const auto* index = static_cast<const Index*>(m.indices);
        const auto* value = static_cast<const Stored*>(m.values);
        Cursor cursor(m, x, seen);  // in registers
        Floats even{}, odd{};
        for (; k + 2 * LANES <= end; k += 2 * LANES) {
            prefetch_ahead(index + k, value + k, 2 * LANES);
            Pair inputs = cursor.pair(index + k);
            even += Value::load(value + k) * inputs.even;
            odd += Value::load(value + k + LANES) * inputs.odd;
        }
        if (k + LANES <= end) {
            even += Value::load(value + k) * cursor.inputs(index + k, LANES);
            k += LANES;
        }
        if (k < end) {
            int n_left = end - k;
            Floats last = k + LANES <= m.n_entries  // later rows follow
                              ? Value::load(value + k) * cursor.inputs(index + k, n_left)
                              : Value::load(Padded<Stored>(value + k, n_left).at) *
                                    cursor.inputs(Padded<Index>(index + k, n_left).at, n_left);
            odd += same_bits<Floats>(same_bits<Ints>(last) & first_lanes(n_left));
        }
        seen = cursor.seen_until_now();
        return sum(even + odd);
    }
};
