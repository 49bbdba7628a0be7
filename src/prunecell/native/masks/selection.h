// The weights that a mask prunes next: a census of keys, the mask of a cut, random keys.
#pragma once

#include "run.h"

// Counts the keys below low, equal to low, between low and high, and equal to high where that is not low. Writes those
// between to `between`, which has room for n.
EXPORT void pc_census(const void* values, int64_t n, int32_t itemsize, int64_t low, int64_t high, void* between,
                      int64_t* counts) {
    by_size(itemsize, [=](auto zero) {
        using Int = decltype(zero);
        auto* v = static_cast<const Int*>(values);
        auto* to = static_cast<Int*>(between);
        const Int from = static_cast<Int>(low), until = static_cast<Int>(high);
        int64_t n_below = 0, n_low = 0, n_between = 0, n_high = 0;
        for_runs(v, n, [&](int64_t start, int count) INLINED {
            Int below = 0;
            for (int i = 0; i < count; i++) below += key_of(v[start + i]) < from;
            n_below += below;
            uint64_t inside = where(v + start, count, [=](Int key) { return key >= from && key <= until; });
            for (; inside; inside &= inside - 1) {
                Int key = key_of(v[start + __builtin_ctzll(inside)]);
                to[n_between] = key;
                n_between += key > from && key < until;
                n_low += key == from;
                n_high += key == until && key > from;
            }
        });
        counts[0] = n_below, counts[1] = n_low, counts[2] = n_between, counts[3] = n_high;
    });
}

// Writes the mask that prunes the keys below `cut` and the first *n_ties keys that equal it; counts *n_ties down.
EXPORT void pc_prune_up_to(const void* values, int64_t n, int32_t itemsize, int64_t cut, int64_t* n_ties,
                           uint8_t* bits) {
    by_size(itemsize, [=](auto zero) {
        using Int = decltype(zero);
        auto* v = static_cast<const Int*>(values);
        const Int edge = static_cast<Int>(cut);
        for_runs(v, n, [=](int64_t start, int count) INLINED {
            uint64_t keep = where(v + start, count, [=](Int key) { return key >= edge; });
            if (*n_ties > 0) {
                uint64_t ties = where(v + start, count, [=](Int key) { return key == edge; });
                for (; ties && *n_ties > 0; ties &= ties - 1, --*n_ties) keep &= ~(ties & -ties);
            }
            write_word(bits + start / 8, keep, count);
        });
    });
}

// Writes keys of a uniform draw for n weights, of which the first is number `first`: 0 where the mask prunes already,
// from [1, 2^29] where the value is 0, from (2^29, 2^30] elsewhere. `values` and `bits` start at the first weight.
// bits/order.py has the twin, which says how keys are drawn.
EXPORT void pc_random_keys(const void* values, const uint8_t* bits, int64_t n, int32_t itemsize, int64_t first,
                           int64_t seed, int32_t* keys) {
    const uint32_t a = static_cast<uint32_t>(seed), b = static_cast<uint32_t>(static_cast<uint64_t>(seed) >> 32);
    by_size(itemsize, [=](auto zero) {
        using Int = decltype(zero);
        auto* v = static_cast<const Int*>(values);
        for_runs(v, n, [=](int64_t start, int count) INLINED {
            int32_t drawn[RUN] = {};
            for (int i = 0; i < count; i++) {
                uint32_t x = static_cast<uint32_t>(first + start + i) ^ a;
                x = (x ^ x >> 16) * 0x7feb352du + b;
                x = (x ^ x >> 16) * 0x7feb352du;
                x = (x ^ x >> 15) * 0x846ca68bu;
                drawn[i] = static_cast<int32_t>((x ^ x >> 16) >> 3) + 1 + (key_of(v[start + i]) != 0 ? 1 << 29 : 0);
            }
            for_vectors<int32_t>(read_word(bits + start / 8, count), [&](int i, Vec<int32_t>::Type keep) INLINED {
                store(drawn + i, load<Vec<int32_t>::Type>(drawn + i) & keep);
            });
            memcpy(keys + start, drawn, count * sizeof(int32_t));
        });
    });
}
