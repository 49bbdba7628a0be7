// The stored value types. Each is one trait:
//
//   Stored    the type of a value in memory
//   IS_FLOAT  whether the product can read stored values as they are
//   one       a stored value as a float
//   load      LANES of them
//
// Operands have one of these types too, but int8. So of the others each has:
//
//   store        LANES floats as stored values, rounded to the nearest
//   store_first  the first n of them
#pragma once

#include "vectors.h"

enum ValueType : int32_t { FLOAT32 = 0, FLOAT16 = 1, INT8 = 2, BFLOAT16 = 3 };

struct Float32 {
    using Stored = float;
    static constexpr bool IS_FLOAT = true;
    static INLINED float one(Stored value) { return value; }
    static INLINED Floats load(const Stored* from) { return ::load<Floats>(from); }
    static INLINED void store(Stored* to, Floats value) { ::store(to, value); }
    static INLINED void store_first(Stored* to, Floats value, int n) { ::store_first(to, value, n); }
};

struct Float16 {
    using Stored = uint16_t;  // the bits of an IEEE half precision number
    static constexpr bool IS_FLOAT = false;
    static INLINED float one(Stored value) { return from_half(value); }
    static INLINED Floats load(const Stored* from) { return from_halves(from); }
    static INLINED void store(Stored* to, Floats value) { ::store(to, to_halves(value)); }
    static INLINED void store_first(Stored* to, Floats value, int n) { ::store_first(to, to_halves(value), n); }
};

struct BFloat16 {
    using Stored = uint16_t;  // the bits of the upper half of a float
    static constexpr bool IS_FLOAT = false;
    static INLINED float one(Stored value) { return from_bfloat(value); }
    static INLINED Floats load(const Stored* from) { return from_bfloats(from); }
    static INLINED void store(Stored* to, Floats value) { ::store(to, to_bfloats(value)); }
    static INLINED void store_first(Stored* to, Floats value, int n) { ::store_first(to, to_bfloats(value), n); }
};

struct Int8 {
    using Stored = int8_t;
    static constexpr bool IS_FLOAT = false;
    static INLINED float one(Stored value) { return value; }
    static INLINED Floats load(const Stored* from) { return __builtin_convertvector(widen(from), Floats); }
};

// task(trait) with the trait of a value type; the only place that knows which code means which.
template <class Task>
INLINE auto with_value_type(int32_t value_type, Task task) {
    switch (value_type) {
        case FLOAT32: return task(Float32{});
        case FLOAT16: return task(Float16{});
        case BFLOAT16: return task(BFloat16{});
        default: return task(Int8{});
    }
}

// The same for the type of activations.
template <class Task>
INLINE auto with_operand_type(int32_t type, Task task) {
    switch (type) {
        case FLOAT16: return task(Float16{});
        case BFLOAT16: return task(BFloat16{});
        default: return task(Float32{});
    }
}

// n stored values as floats.
template <class Value>
static void decode_values(const typename Value::Stored* from, int64_t n, float* to) {
    int64_t k = 0;
    for (; k + LANES <= n; k += LANES) store(to + k, Value::load(from + k));
    if (k == n) return;
    Floats last = Value::load(Padded<typename Value::Stored>(from + k, n - k).at);
    memcpy(to + k, &last, (n - k) * sizeof(float));
}
