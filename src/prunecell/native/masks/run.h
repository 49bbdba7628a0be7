// Runs of 64 weights: the values, their keys, and the mask as one 64-bit word.
//
// Weight i is bit i % 8 of byte i / 8 of the mask; a set bit keeps. A weight of any type is handled as the integer of
// its size. Its key is its bits without the sign, because keys of floats order as their magnitudes do. The loops over a
// run are plain, and the compiler turns them into vectors: the length is a constant there but for the last, short run.
#pragma once

#include "../vectors.h"

constexpr int RUN = 64;

// task(start, n) for every run.
template <class Task>
INLINE void for_runs(int64_t n, Task task) {
    int64_t start = 0;
    for (; start + RUN <= n; start += RUN) task(start, RUN);
    if (start < n) task(start, static_cast<int>(n - start));
}

// The same over the weights at v, which are prefetched: the CPU alone fetches so late that a pass takes two to three
// times as long.
template <class Int, class Task>
INLINE void for_runs(const Int* v, int64_t n, Task task) {
    constexpr uintptr_t BYTES_AHEAD = 8192;
    for_runs(n, [=](int64_t start, int count) INLINED {
        uintptr_t from = reinterpret_cast<uintptr_t>(v + start) + BYTES_AHEAD;
        for (uintptr_t i = 0; i < RUN * sizeof(Int); i += CACHE_LINE)
            __builtin_prefetch(reinterpret_cast<void*>(from + i));
        task(start, count);
    });
}

// task(Int{}) with the integer of that many bytes.
template <class Task>
INLINE void by_size(int32_t itemsize, Task task) {
    switch (itemsize) {
        case 1: return task(int8_t{});
        case 2: return task(int16_t{});
        case 4: return task(int32_t{});
        default: return task(int64_t{});
    }
}

template <class Int>
INLINE Int key_of(Int bits) {
    return static_cast<Int>(bits & ~(uint64_t{1} << (8 * sizeof(Int) - 1)));
}

// The mask of a run of n weights as one word: bit i is weight i.
INLINE uint64_t read_word(const uint8_t* bits, int n) {
    uint64_t word = 0;
    for (int i = 0; 8 * i < n; i++) word |= uint64_t{bits[i]} << 8 * i;
    return word;
}

INLINE void write_word(uint8_t* bits, uint64_t word, int n) {
    for (int i = 0; 8 * i < n; i++) bits[i] = static_cast<uint8_t>(word >> 8 * i);
}

// The bits of the weights that the mask prunes: those that are 0 among the first n.
INLINE uint64_t pruned_of(uint64_t word, int n) { return ~word & ~uint64_t{0} >> (RUN - n); }

struct Flags {
    int8_t at[RUN];
};

constexpr Flags bits_in_their_bytes() {
    Flags flags{};
    for (int i = 0; i < RUN; i++) flags.at[i] = static_cast<int8_t>(1 << i % 8);
    return flags;
}
constexpr Flags BIT = bits_in_their_bytes();

// Bit i is set where test(bits of weight i).
template <class Int, class Test>
INLINE uint64_t where_bits(const Int* values, int n, Test test) {
    Flags flags{};
    for (int i = 0; i < n; i++) flags.at[i] = test(values[i]) ? BIT.at[i] : int8_t{0};
    uint64_t word = 0;
    for (int i = 0; i < RUN / 8; i++) {
        uint64_t eight;
        memcpy(&eight, flags.at + 8 * i, sizeof(eight));
        word |= (eight * 0x0101010101010101u >> 56) << 8 * i;  // the product's top byte is the sum of all eight
    }
    return word;
}

// Bit i is set where test(key of weight i).
template <class Int, class Test>
INLINE uint64_t where(const Int* values, int n, Test test) {
    return where_bits(values, n, [=](Int bits) INLINED { return test(key_of(bits)); });
}

// task(i, keep) for every vector of a whole run: i is its first weight, keep is -1 in the lanes that the mask keeps.
template <class Int, class Task>
INLINE void for_vectors(uint64_t word, Task task) {
    for (int i = 0; i < RUN; i += Vec<Int>::N) task(i, Vec<Int>::spread(word >> i));
}
