// A row of a sparse matrix times one dense vector: what the formats that store an index for every entry share.
#pragma once

#include "../matrix.h"
#include "../values.h"

// The dense vector of n elements. Its tail holds the elements after the last whole vector, with zeros behind them.
struct DenseVector {
    const float* at;
    Padded<float> tail;
    DenseVector(const float* x, int64_t n) : at(x), tail(x + n / LANES * LANES, n % LANES) {}
};

// Prefetches entries that are AHEAD of these: a matrix that is in no cache then arrives in half the time.
constexpr int64_t AHEAD = 512;

template <class Index, class Stored>
INLINE void prefetch_ahead(const Index* index, const Stored* value, int64_t n) {
    for (int64_t i = 0; i < n * (int64_t)sizeof(Stored); i += CACHE_LINE)
        __builtin_prefetch(reinterpret_cast<const char*>(value + AHEAD) + i);
    __builtin_prefetch(index + AHEAD);
}

// The sum of value * x[column] over the n entries of a row. `readable` entries may be read, as later rows follow.
// cursor.inputs(x, index, n) gives x[column] of the next LANES entries, of which the first n count.
template <class Value, class Cursor, class Index>
INLINE float dot_of_entries(Cursor cursor, const Index* index, const typename Value::Stored* value, int64_t n,
                            int64_t readable, const float* x) {
    using Stored = typename Value::Stored;
    Floats even{}, odd{};
    int64_t k = 0;
    for (; k + 2 * LANES <= n; k += 2 * LANES) {
        prefetch_ahead(index + k, value + k, 2 * LANES);
        even += Value::load(value + k) * cursor.inputs(x, index + k, LANES);
        odd += Value::load(value + k + LANES) * cursor.inputs(x, index + k + LANES, LANES);
    }
    for (; k + LANES <= n; k += LANES) even += Value::load(value + k) * cursor.inputs(x, index + k, LANES);
    if (k < n) {
        int n_left = n - k;
        Floats last = k + LANES <= readable
                          ? Value::load(value + k) * cursor.inputs(x, index + k, n_left)
                          : Value::load(Padded<Stored>(value + k, n_left).at) *
                                cursor.inputs(x, Padded<Index>(index + k, n_left).at, n_left);
        odd += same_bits<Floats>(same_bits<Ints>(last) & first_lanes(n_left));
    }
    return sum(even + odd);
}

// Row r of a matrix whose indices are one `Index` an entry.
template <class Value, class Index, class Cursor>
INLINE float dot_of_row(const Matrix& m, int32_t r, Cursor cursor, const float* x) {
    int64_t k = m.starts[r], n = m.starts[r + 1] - k;
    const auto* index = static_cast<const Index*>(m.indices) + k;
    const auto* value = static_cast<const typename Value::Stored*>(m.values) + k;
    return dot_of_entries<Value>(cursor, index, value, n, m.n_entries - k, x);
}
