// Memory of one call.
#pragma once

#include "language.h"

// `n` elements at a cache line, not initialised, freed at the end of the scope; null where there is no memory.
template <class T>
struct Scratch {
    T* at;
    explicit Scratch(int64_t n) {
        size_t size = round_up(larger(n, 1) * (int64_t)sizeof(T), CACHE_LINE);
        at = static_cast<T*>(aligned_alloc(CACHE_LINE, size));
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { free(at); }
};
