// Which level the CPU runs, and which source this library was compiled from.
#pragma once

#include "instructions.h"

// The checksum of all C++ files at compile time, by which load.py knows a library that is older than its source.
EXPORT uint32_t pc_source_checksum() { return SOURCE_CHECKSUM; }

// The best x86-64 level that the CPU and its operating system run: 1, 3 or 4. Other machines have one level, 1.
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

// Whether the CPU has VNNI for the vectors of this level, which a CPU of any level may lack.
EXPORT int32_t pc_has_vnni() { return has_vnni(); }
