// The words of archives: weights as unsigned integers of their size.
#pragma once

#include "masks/run.h"

uint8_t unsigned_of(int8_t);
uint16_t unsigned_of(int16_t);
uint32_t unsigned_of(int32_t);
uint64_t unsigned_of(int64_t);

// Byte j of word i is planes[j][i]. Where asked, the lowest bit of the word, its sign, then becomes the highest.
EXPORT void pc_join_bytes(const uint8_t* const* planes, int64_t n, int32_t itemsize, int32_t sign_below, void* words) {
    by_size(itemsize, [=](auto zero) {
        using Word = decltype(unsigned_of(zero));
        constexpr int SIZE = sizeof(Word);
        const uint8_t* plane[SIZE];
        for (int j = 0; j < SIZE; j++) plane[j] = planes[j];
        auto* to = static_cast<Word*>(words);
        const int turn = sign_below ? 1 : 0;
        for (int64_t i = 0; i < n; i++) {
            Word word = 0;
            for (int j = 0; j < SIZE; j++) word |= static_cast<Word>(static_cast<Word>(plane[j][i]) << 8 * j);
            to[i] = static_cast<Word>(word >> turn | (turn ? word << (8 * SIZE - 1) : 0));
        }
    });
}

// The reverse: byte j of word i becomes planes[j][i]. Where asked, the highest bit of the word, its sign, first becomes
// the lowest.
EXPORT void pc_split_bytes(const void* words, int64_t n, int32_t itemsize, int32_t sign_below, uint8_t* const* planes) {
    by_size(itemsize, [=](auto zero) {
        using Word = decltype(unsigned_of(zero));
        constexpr int SIZE = sizeof(Word);
        auto* from = static_cast<const Word*>(words);
        const int turn = sign_below ? 1 : 0;
        for (int64_t start = 0; start < n; start += RUN) {
            const int count = static_cast<int>(smaller(RUN, n - start));
            Word turned[RUN];
            for (int i = 0; i < count; i++) {
                Word word = from[start + i];
                turned[i] = turn ? static_cast<Word>(word << 1 | word >> (8 * SIZE - 1)) : word;
            }
            for (int j = 0; j < SIZE; j++) {
                uint8_t* plane = planes[j] + start;
                for (int i = 0; i < count; i++) plane[i] = static_cast<uint8_t>(turned[i] >> 8 * j);
            }
        }
    });
}

// to[positions[i]] = words[i].
EXPORT void pc_scatter(void* to, const int64_t* positions, const void* words, int64_t n, int32_t itemsize) {
    by_size(itemsize, [=](auto zero) {
        auto* target = static_cast<decltype(zero)*>(to);
        auto* word = static_cast<const decltype(zero)*>(words);
        for (int64_t i = 0; i < n; i++) target[positions[i]] = word[i];
    });
}
