// What every header needs of the language: how functions are exported and inlined, and whole numbers.
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <type_traits>

#define EXPORT extern "C" __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline, unused))
#define INLINED __attribute__((always_inline))  // of a lambda
#define APART __attribute__((noinline))         // because inside a larger function its loops would get fewer registers

INLINE constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE constexpr int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

constexpr int64_t CACHE_LINE = 64;

// A number from memory that another thread may write to, read exactly once: what was checked is what is used.
template <class T>
INLINE T read_once(const T* from) {
    return *static_cast<const volatile T*>(from);
}

// A copy of numbers that another thread may write to: what was checked in it is what is used.
template <class T>
INLINE void copy_once(const T* from, int64_t n, T* to) {
    memcpy(to, from, n * sizeof(T));
    asm volatile("" : : : "memory");  // else the compiler may read `from` again in place of the copy
}

INLINE void prefetch(const void* at) { __builtin_prefetch(at); }

// Fetches all cache lines of [from, end) ahead of their use.
template <class T>
INLINE void prefetch_all(const T* from, const T* end) {
    const char *at = reinterpret_cast<const char*>(from), *until = reinterpret_cast<const char*>(end);
    for (; at < until; at += CACHE_LINE) __builtin_prefetch(at);
}
