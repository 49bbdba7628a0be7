// The memory of a packed matrix: one piece, from which its arena are cut, and which the caller gives back.
#pragma once

#include "../language.h"

// What a packing gives: structs.py has the same fields.
struct Packed {
    void* at;         // a Blocked or a Sliced
    int64_t n_bytes;  // of memory
};

// Arena of a piece of memory, one after the other, each at a cache line. Without memory it only counts.
struct Arena {
    char* at = nullptr;
    int64_t n_bytes = 0;

    template <class T>
    T* next(int64_t n) {
        T* array = reinterpret_cast<T*>(at + n_bytes);
        n_bytes = round_up(n_bytes + n * (int64_t)sizeof(T), CACHE_LINE);
        return array;
    }

    // Gets the memory that was counted, and begins at its start. What is prefetched or read as a part of a vector behind
    // the last element still belongs to it.
    bool allocate() {
        const int64_t n = n_bytes + 2 * CACHE_LINE;
        at = static_cast<char*>(aligned_alloc(CACHE_LINE, n));
        if (at) memset(at + n_bytes, 0, n - n_bytes);
        n_bytes = 0;
        return at != nullptr;
    }
};

EXPORT void pc_release(void* packed) { free(packed); }
