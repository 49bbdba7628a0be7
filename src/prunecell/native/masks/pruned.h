// Values that a mask prunes: filled, taken out and put back.
#pragma once

#include "run.h"

// Writes one value, given by its bits, where the mask prunes.
EXPORT void pc_fill_pruned(void* values, const uint8_t* bits, int64_t n, int32_t itemsize, int64_t value) {
    by_size(itemsize, [=](auto zero) {
        using Int = decltype(zero);
        using Vector = typename Vec<Int>::Type;
        auto* v = static_cast<Int*>(values);
        const Int filling = static_cast<Int>(value);
        for_runs(v, n, [=](int64_t start, int count) INLINED {
            uint64_t word = read_word(bits + start / 8, count);
            if (count < RUN) {
                for (int i = 0; i < count; i++) v[start + i] = word >> i & 1 ? v[start + i] : filling;
                return;
            }
            for_vectors<Int>(word, [=](int i, Vector keep) INLINED {
                Int* at = v + start + i;
                store(at, (load<Vector>(at) & keep) | ((filling - Vector{}) & ~keep));
            });
        });
    });
}

// Writes the values of a run where a bit is set, one after the other, and returns the end. Up to 8 more are written
// behind it.
template <class Int>
INLINE Int* gather_run(const Int* v, uint64_t set, Int* to) {
    for (int i = 0; i < RUN; i += 8) {
        int byte = set >> i & 0xff;
        if constexpr (CAN_SHUFFLE<Int>) {
            store(to, shuffled(load<typename Vec<Int, 8>::Type>(v + i), GATHERED.at[byte]));
            to += __builtin_popcount(byte);
        } else {
            for (int lane = 0; lane < 8; lane++) {
                *to = v[i + lane];
                to += byte >> lane & 1;
            }
        }
    }
    return to;
}

// The reverse: writes the next values where a bit is set; elsewhere what stood there stays, or becomes zero. Up to 8 more
// are read behind them.
template <bool STAYS, class Int>
INLINE const Int* scatter_run(Int* v, uint64_t set, const Int* from) {
    for (int i = 0; i < RUN; i += 8) {
        int byte = set >> i & 0xff;
        if constexpr (CAN_SHUFFLE<Int>) {
            using Eight = Vec<Int, 8>;
            const auto chosen = Eight::spread(byte);
            auto values = shuffled(load<typename Eight::Type>(from), SCATTERED.at[byte]) & chosen;
            if constexpr (STAYS) values |= load<typename Eight::Type>(v + i) & ~chosen;
            store(v + i, values);
            from += __builtin_popcount(byte);
        } else {
            for (int lane = 0; lane < 8; lane++) {
                v[i + lane] = byte >> lane & 1 ? *from : STAYS ? v[i + lane] : Int{0};
                from += byte >> lane & 1;
            }
        }
    }
    return from;
}

// Moves the n_pruned values that the mask prunes to `taken`, in order, and leaves +0.0 in their places.
EXPORT void pc_take_pruned(void* values, const uint8_t* bits, int64_t n, int32_t itemsize, void* taken,
                           int64_t n_pruned) {
    by_size(itemsize, [=](auto zero) {
        using Int = decltype(zero);
        using Vector = typename Vec<Int>::Type;
        auto* v = static_cast<Int*>(values);
        auto *to = static_cast<Int*>(taken), *end = to + n_pruned;
        for_runs(v, n, [=, &to](int64_t start, int count) INLINED {
            uint64_t word = read_word(bits + start / 8, count), pruned = pruned_of(word, count);
            if (count == RUN && end - to > RUN) {
                to = gather_run(v + start, pruned, to);
                for_vectors<Int>(word, [=](int i, Vector keep) INLINED {
                    store(v + start + i, load<Vector>(v + start + i) & keep);
                });
            } else {
                for (; pruned && to < end; pruned &= pruned - 1) {
                    Int& value = v[start + __builtin_ctzll(pruned)];
                    *to++ = value;
                    value = 0;
                }
            }
        });
    });
}

// Puts what pc_take_pruned took back in its places.
EXPORT void pc_put_pruned(void* values, const uint8_t* bits, int64_t n, int32_t itemsize, const void* taken,
                          int64_t n_pruned) {
    by_size(itemsize, [=](auto zero) {
        auto* v = static_cast<decltype(zero)*>(values);
        auto *from = static_cast<const decltype(zero)*>(taken), *end = from + n_pruned;
        for_runs(v, n, [=, &from](int64_t start, int count) INLINED {
            uint64_t pruned = pruned_of(read_word(bits + start / 8, count), count);
            if (count == RUN && end - from > RUN)
                from = scatter_run<true>(v + start, pruned, from);
            else
                for (; pruned && from < end; pruned &= pruned - 1) v[start + __builtin_ctzll(pruned)] = *from++;
        });
    });
}

// *n_set = how many of the first n bits are set.
EXPORT void pc_count_bits(const uint8_t* bits, int64_t n, int64_t* n_set) {
    int64_t count = 0;
    for_runs(n, [&](int64_t start, int n) { count += __builtin_popcountll(read_word(bits + start / 8, n)); });
    *n_set = count;
}
