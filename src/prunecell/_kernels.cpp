// The hot loops of prunecell, in portable C++17: compiler vector extensions, no intrinsics, no Python, no OpenMP,
// no exceptions. The same file is compiled for several instruction-set levels; kernels.py loads the best that the
// CPU runs and calls it through ctypes. Every function is reentrant and keeps no state: threads belong to the caller.
//
//   1  the level of the CPU and the version of the source
//   2  vectors
//
// An exported function starts with `pc_`. Those that may run out of memory return 0, or -1 if they did.

#include <stdint.h>

#define EXPORT extern "C" __attribute__((visibility("default")))

// ---- 1  the level of the CPU and the version of the source ---------------------------------------------------------

// The CRC-32 of this file when it was compiled: a library that is older than its source is not loaded.
EXPORT uint32_t pc_source_checksum() { return SOURCE_CHECKSUM; }

// The best x86-64 level that the CPU and its operating system run: 1, 3 or 4. Elsewhere there is one level, 1.
EXPORT int32_t pc_cpu_level() {
#if defined(__x86_64__)
    bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
              __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
    bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vl");
    return v4 ? 4 : v3 ? 3 : 1;
#else
    return 1;
#endif
}

// ---- 2  vectors ----------------------------------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

// A vector of floats that may lie at any address of a float.
typedef float Floats __attribute__((vector_size(LANES * sizeof(float)), aligned(alignof(float)), may_alias));
