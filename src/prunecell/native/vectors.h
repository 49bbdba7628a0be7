// Vectors of any instruction set: lanes chosen by bits, short copies, transposing.
#pragma once

#include "instructions.h"

// A product keeps the sums of at most MAX_VECTORS vectors of positions in registers: that many positions are a BLOCK.
// USUAL_BLOCK is the size that is usually fastest.
constexpr int MAX_VECTORS = 8, BLOCK = LANES * MAX_VECTORS, USUAL_BLOCK = BLOCK < 64 ? BLOCK : 64;

INLINE Ints lanes() {
    Ints lane{};
    for (int i = 0; i < LANES; i++) lane[i] = i;
    return lane;
}

// -1 in the first n lanes, 0 elsewhere.
INLINE Ints first_lanes(int n) { return lanes() < (n - Ints{}); }

INLINE Floats all(float value) { return value - Floats{}; }

INLINE Floats size_of(Floats v) { return same_bits<Floats>(same_bits<Ints>(v) & (INT32_MAX - Ints{})); }
INLINE Floats with_sign_of(Floats size, Floats v) {
    return same_bits<Floats>(same_bits<Ints>(size) | (same_bits<Ints>(v) & (INT32_MIN - Ints{})));
}

INLINE bool is_aligned(const float* at) { return reinterpret_cast<uintptr_t>(at) % (LANES * sizeof(float)) == 0; }

// A copy of fewer than LANES elements with zeros behind them, from which a whole vector can be loaded.
template <class T>
struct Padded {
    T at[LANES] = {};
    Padded(const T* from, int64_t n) {
        if (n) memcpy(at, from, n * sizeof(T));
    }
};

// ---- lanes chosen by bits --------------------------------------------------------------------------------------------

// A vector of integers of any size: as many as fit, but no more than one of them has bits.
template <class Int, int LENGTH = smaller(sizeof(Floats) / sizeof(Int), 8 * sizeof(Int))>
struct Vec {
    static constexpr int N = LENGTH;
    typedef Int Type VECTOR(Int, N);

    // -1 in lane i where bit i is set, 0 elsewhere.
    static Type spread(uint64_t bits) {
        Type bit{};
        for (int i = 0; i < N; i++) bit[i] = static_cast<Int>(uint64_t{1} << i);
        return ((static_cast<Int>(bits) - Type{}) & bit) == bit;
    }
};

struct Orders {
    int8_t at[256][8];
};

// For every byte an order of eight lanes. GATHERED puts the lanes of its set bits first. SCATTERED is the reverse: it
// gives every lane the number of set bits before it.
constexpr Orders orders(bool gathered) {
    Orders orders{};
    for (int byte = 0; byte < 256; byte++)
        for (int lane = 0, n_set = 0; lane < 8; lane++) {
            if (!gathered)
                orders.at[byte][lane] = static_cast<int8_t>(n_set);
            else if (byte >> lane & 1)
                orders.at[byte][n_set] = static_cast<int8_t>(lane);
            n_set += byte >> lane & 1;
        }
    return orders;
}
constexpr Orders GATHERED = orders(true), SCATTERED = orders(false);

// The lanes of v whose bit is set, 0 elsewhere.
INLINE Floats chosen(uint32_t bits, Floats v) {
    if constexpr (HAS_GATHER)
        return chosen_lanes(bits, v);
    else
        return same_bits<Floats>(same_bits<Ints>(v) & Vec<int32_t>::spread(bits));
}

// The next of `values` in every lane whose bit is set, 0 elsewhere.
INLINE Floats expand(uint32_t bits, Floats values) {
    if constexpr (LANES == 8 && CAN_SHUFFLE<int32_t>)
        return chosen(bits, same_bits<Floats>(shuffled(same_bits<Ints>(values), SCATTERED.at[bits])));
    else
        return expand_lanes(bits, values);
}

// ---- copies ----------------------------------------------------------------------------------------------------------

// A short copy: calling memcpy would make it slow.
INLINE void copy_floats(const float* from, int64_t n, float* to) {
    if (n >= LANES) {
        for (int64_t i = 0; i + LANES < n; i += LANES) store(to + i, load<Floats>(from + i));
        store(to + n - LANES, load<Floats>(from + n - LANES));
        return;
    }
    if (n & 8) memcpy(to, from, 8 * sizeof(float)), to += 8, from += 8;
    if (n & 4) memcpy(to, from, 4 * sizeof(float)), to += 4, from += 4;
    if (n & 2) memcpy(to, from, 2 * sizeof(float)), to += 2, from += 2;
    if (n & 1) *to = *from;
}
