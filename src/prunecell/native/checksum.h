// CRC-32 of long memory, by products without carries (Gopal et al. 2009, Fast CRC Computation for Generic Polynomials
// Using PCLMULQDQ Instruction, Intel).
#pragma once

#include "instructions.h"

// x^(n + 32) and x^(n - 32) modulo the polynomial of CRC-32, bits reversed, where n is how many bits are stepped over.
constexpr Remainder OVER_512 = {0x154442bd4, 0x1c6e41596}, OVER_128 = {0x1751997d0, 0x0ccaa009e};

MULTIPLIES_WITHOUT_CARRIES static void fold_all(const uint8_t* data, int64_t n, uint32_t state, uint8_t* to) {
    constexpr int64_t SIZE = sizeof(Remainder), AT_ONCE = 4 * SIZE;
    Remainder sums[4];
    for (int i = 0; i < 4; i++) sums[i] = load<Remainder>(data + i * SIZE);
    sums[0] ^= Remainder{state, 0};
    for (int64_t at = AT_ONCE; at < n; at += AT_ONCE) {
        for (int i = 0; i < 4; i++) sums[i] = fold(sums[i], OVER_512, load<Remainder>(data + at + i * SIZE));
    }
    for (int i = 1; i < 4; i++) sums[i] = fold(sums[i - 1], OVER_128, sums[i]);
    store(to, sums[3]);
}

// Writes 16 bytes whose CRC-32 from state 0 on is that of the n bytes from `state` on. n is a multiple of 64, and more
// than 0. Returns whether it did: not where the CPU has no instruction for it.
EXPORT int32_t pc_fold_checksum(const uint8_t* data, int64_t n, uint32_t state, uint8_t* to) {
    if (!can_fold()) return false;
    fold_all(data, n, state, to);
    return true;
}
