// Which words of an archive's tensor are kept: bits of a mask, the kept words, and the gaps between them.
//
// Bit i % 8 of byte i / 8 is set where word i is kept, that is, not zero. In bytes of gaps, one below LITERALS means so
// many zeros and then a kept word; LITERALS + k means LITERALS << k zeros.
#pragma once

#include "masks/pruned.h"

constexpr int64_t LITERALS = 240, LONGEST = LITERALS << 15;

// Sets the bits of the words that are not zero, and copies those words to `kept`, one after the other, which has room
// for n words and 8 more; *n_kept = how many they are.
EXPORT void pc_take_kept(const void* words, int64_t n, int32_t itemsize, uint8_t* bits, void* kept, int64_t* n_kept) {
    by_size(itemsize, [=](auto zero) {
        using Int = decltype(zero);
        auto* v = static_cast<const Int*>(words);
        auto *begin = static_cast<Int*>(kept), *to = begin;
        for_runs(v, n, [=, &to](int64_t start, int count) INLINED {
            uint64_t set = count == RUN ? where_bits(v + start, RUN, [](Int bits) INLINED { return bits != 0; })
                                        : where_bits(v + start, count, [](Int bits) INLINED { return bits != 0; });
            write_word(bits + start / 8, set, count);
            if (count == RUN)
                to = gather_run(v + start, set, to);
            else
                for (; set; set &= set - 1) *to++ = v[start + __builtin_ctzll(set)];
        });
        *n_kept = to - begin;
    });
}

// Writes the next of `kept` where a bit is set, and zero elsewhere. `kept` has as many words as bits are set.
EXPORT void pc_put_kept(void* words, const uint8_t* bits, int64_t n, int32_t itemsize, const void* kept,
                        int64_t n_kept) {
    by_size(itemsize, [=](auto zero) {
        using Int = decltype(zero);
        auto* v = static_cast<Int*>(words);
        auto *from = static_cast<const Int*>(kept), *end = from + n_kept;
        for_runs(n, [=, &from](int64_t start, int count) INLINED {
            uint64_t set = read_word(bits + start / 8, count);
            if (count == RUN && end - from > RUN) {
                from = scatter_run<false>(v + start, set, from);
                return;
            }
            for (int i = 0; i < count; i++) v[start + i] = 0;
            for (; set && from < end; set &= set - 1) v[start + __builtin_ctzll(set)] = *from++;
        });
    });
}

// Writes the zeros before each set bit as bytes of gaps. *carried is how many zeros came before the first bit, and
// becomes how many follow the last one. `gaps` has room for all; *n_bytes = how many there are.
EXPORT void pc_write_gaps(const uint8_t* bits, int64_t n, int64_t* carried, uint8_t* gaps, int64_t* n_bytes) {
    uint8_t* to = gaps;
    int64_t last = -1 - *carried;
    for_runs(n, [&](int64_t start, int count) INLINED {
        for (uint64_t word = read_word(bits + start / 8, count); word; word &= word - 1) {
            int64_t at = start + __builtin_ctzll(word), gap = at - last - 1;
            last = at;
            if (gap >= LITERALS) {
                for (; gap >= 2 * LONGEST; gap -= 2 * LONGEST) *to++ = 255, *to++ = 255;
                int64_t multiples = gap / LITERALS;
                for (int k = 0; multiples >> k; k++)
                    if (multiples >> k & 1) *to++ = static_cast<uint8_t>(LITERALS + k);
                gap %= LITERALS;
            }
            *to++ = static_cast<uint8_t>(gap);
        }
    });
    *carried = n - 1 - last;
    *n_bytes = to - gaps;
}

// The reverse: positions[i] = the place of the kept word i, if *at words came before. *at becomes how many came in all;
// *n_kept = how many are kept. `positions` has room for n.
EXPORT void pc_read_gaps(const uint8_t* gaps, int64_t n, int64_t* at, int64_t* positions, int64_t* n_kept) {
    int64_t here = *at, *to = positions;
    for (int64_t i = 0; i < n; i++) {
        const int64_t gap = gaps[i];
        *to = here + gap;
        to += gap < LITERALS;
        here += gap < LITERALS ? gap + 1 : LITERALS << (gap - LITERALS);
    }
    *at = here;
    *n_kept = to - positions;
}
