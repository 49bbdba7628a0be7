// All code that depends on the instruction set: how wide vectors are, intrinsics, and the portable twin of each.
//
// A function is here because not every compiler makes its instruction from portable code: gather and expand of
// AVX-512, widening and shuffles of AVX2, the conversion of half precision. With these instructions the product with
// one vector takes 0.6 of the time.
#pragma once

#include "language.h"

#if defined(__SSE2__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HAS_SHUFFLEVECTOR 1
#endif
#endif
#if defined(__AVX512F__) && HAS_SHUFFLEVECTOR
#define WIDE 1
#endif

// ACCUMULATORS: the sums that a product can keep in registers beside what it multiplies.
#if defined(__AVX512F__)
constexpr int LANES = 16, ACCUMULATORS = 16;
#elif defined(__AVX__)
constexpr int LANES = 8, ACCUMULATORS = 8;
#else
constexpr int LANES = 4, ACCUMULATORS = 8;
#endif

#define VECTOR(type, n) __attribute__((vector_size((n) * sizeof(type))))
typedef float Floats VECTOR(float, LANES);
typedef int32_t Ints VECTOR(int32_t, LANES);
typedef uint32_t Words VECTOR(uint32_t, LANES);

// A vector may lie at any address: memcpy of its size becomes one instruction that asks for no alignment.
template <class Vector, class T>
INLINE Vector load(const T* from) {
    Vector value;
    memcpy(&value, from, sizeof(value));
    return value;
}

template <class Vector, class T>
INLINE void store(T* to, Vector value) {
    memcpy(to, &value, sizeof(value));
}

template <class To, class From>
INLINE To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "same_bits keeps the size");
    To to;
    memcpy(&to, &from, sizeof(to));
    return to;
}

// A number or a vector that stays as it was loaded: the compiler cannot load it a second time, after another thread
// wrote there.
INLINE uint32_t settled(uint32_t value) {
    asm("" : "+r"(value));
    return value;
}

INLINE uint64_t settled(uint64_t value) {
    asm("" : "+r"(value));
    return value;
}

INLINE const char* settled(const char* at) {
    asm("" : "+r"(at));
    return at;
}

template <class Vector>
INLINE Vector settled(Vector value) {
#if defined(__x86_64__)
    asm("" : "+v"(value));
#elif defined(__aarch64__)
    asm("" : "+w"(value));
#else
    asm("" : "+m"(value));
#endif
    return value;
}

template <class Vector>
INLINE Vector lower(Vector a, Vector b) {
    return a < b ? a : b;
}

template <class Vector>
INLINE Vector higher(Vector a, Vector b) {
    return a > b ? a : b;
}

#if defined(__AVX2__)
INLINE __m128i eight_bytes(const void* v) { return _mm_loadl_epi64(static_cast<const __m128i*>(v)); }
#endif

// LANES small integers as 32-bit integers.
#if defined(__AVX2__) && !defined(__AVX512F__)
INLINE Ints widen(const uint16_t* v) { return same_bits<Ints>(_mm256_cvtepu16_epi32(load<__m128i>(v))); }
INLINE Ints widen(const uint8_t* v) { return same_bits<Ints>(_mm256_cvtepu8_epi32(eight_bytes(v))); }
INLINE Ints widen(const int8_t* v) { return same_bits<Ints>(_mm256_cvtepi8_epi32(eight_bytes(v))); }
#else
typedef uint16_t Shorts VECTOR(uint16_t, LANES);
typedef int16_t SignedShorts VECTOR(int16_t, LANES);
typedef uint8_t Bytes VECTOR(uint8_t, LANES);
typedef int8_t Chars VECTOR(int8_t, LANES);
#if defined(__AVX512F__)
INLINE Ints widen(const uint16_t* v) { return same_bits<Ints>(_mm512_maskz_cvtepu16_epi32(0xffff, load<__m256i>(v))); }
INLINE Ints widen(const uint8_t* v) { return same_bits<Ints>(_mm512_maskz_cvtepu8_epi32(0xffff, load<__m128i>(v))); }
INLINE Ints widen(const int8_t* v) { return same_bits<Ints>(_mm512_maskz_cvtepi8_epi32(0xffff, load<__m128i>(v))); }
#else
INLINE Ints widen(const uint16_t* v) { return __builtin_convertvector(load<Shorts>(v), Ints); }

// Bytes are widened in two steps, each of which is one instruction; GCC does one large step byte by byte.
INLINE Ints widen(const uint8_t* v) {
    return __builtin_convertvector(__builtin_convertvector(load<Bytes>(v), Shorts), Ints);
}
INLINE Ints widen(const int8_t* v) {
    return __builtin_convertvector(__builtin_convertvector(load<Chars>(v), SignedShorts), Ints);
}
#endif
#endif

// LANES half precision numbers (IEEE binary16), given by their bits, as floats.
INLINE Floats from_halves(const uint16_t* v) {
#if defined(__AVX512F__)
    return same_bits<Floats>(_mm512_maskz_cvtph_ps(0xffff, load<__m256i>(v)));
#elif defined(__F16C__)
    return same_bits<Floats>(_mm256_cvtph_ps(load<__m128i>(v)));
#else
    Words half = same_bits<Words>(widen(v));
    Words magnitude = (half & 0x7fff) << 13, sign = (half & 0x8000) << 16;
    Words special = same_bits<Words>(magnitude >= 0x0f800000u) & 0x7f800000u;  // infinity and NaN
    Floats scaled = same_bits<Floats>(magnitude) * 0x1p112f;  // changes the exponent's bias, of subnormals too
    return same_bits<Floats>(same_bits<Words>(scaled) | special | sign);
#endif
}

// LANES bfloat16 numbers, given by their bits, as floats: they are the upper halves of these.
INLINE Floats from_bfloats(const uint16_t* v) { return same_bits<Floats>(same_bits<Words>(widen(v)) << 16); }

// One of each.
INLINE float from_half(uint16_t v) {
#if defined(__F16C__)
    return _cvtsh_ss(v);
#else
    uint16_t lanes[LANES] = {v};
    return from_halves(lanes)[0];
#endif
}

INLINE float from_bfloat(uint16_t v) { return same_bits<float>(static_cast<uint32_t>(v) << 16); }

typedef uint16_t Halves VECTOR(uint16_t, LANES);

INLINE Halves narrow(Words v) {
#if defined(__AVX512F__)
    return same_bits<Halves>(_mm512_maskz_cvtepi32_epi16(0xffff, same_bits<__m512i>(v)));
#else
    return __builtin_convertvector(v, Halves);
#endif
}

// Floats as the nearest half precision or bfloat16 numbers, of two as near the even one, given by their bits. NaN stays
// NaN.
INLINE Halves to_halves(Floats v) {
#if defined(__AVX512F__)
    return same_bits<Halves>(_mm512_maskz_cvtps_ph(0xffff, same_bits<__m512>(v), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    return same_bits<Halves>(_mm256_cvtps_ph(same_bits<__m256>(v), _MM_FROUND_TO_NEAREST_INT));
#else
    const Words bits = same_bits<Words>(v), sign = bits & 0x80000000u, magnitude = bits ^ sign;
    // Adding a power of two rounds at the place of a half's last digit, which is fixed for subnormal halves. What is too
    // large for a half becomes infinity first.
    Words place = bits << 1 & 0xff000000u;
    place = place < 0x71000000u ? 0x71000000u - Words{} : place;
    const Floats value = same_bits<Floats>(magnitude) * 0x1p112f * 0x1p-110f;
    const Words rounded = same_bits<Words>(same_bits<Floats>((place >> 1) + 0x07800000u) + value);
    const Words half = (rounded >> 13 & 0x7c00u) + (rounded & 0x0fffu);
    const Words nan = 0x7e00u | (bits >> 13 & 0x1ffu);
    return narrow(sign >> 16 | (magnitude > 0x7f800000u ? nan : half));
#endif
}

INLINE Halves to_bfloats(Floats v) {
    const Words bits = same_bits<Words>(v), magnitude = bits & 0x7fffffffu;
    const Words rounded = bits + 0x7fffu + (bits >> 16 & 1u), nan = bits | 0x400000u;
    return narrow((magnitude > 0x7f800000u ? nan : rounded) >> 16);
}

// Eight lanes in another order, where the compiler has an instruction for it; else CAN_SHUFFLE is false.
#if defined(__AVX2__) && !defined(__clang__)
typedef int32_t EightInts VECTOR(int32_t, 8);
typedef int16_t EightShorts VECTOR(int16_t, 8);

template <class Int>
constexpr bool CAN_SHUFFLE = sizeof(Int) == 2 || sizeof(Int) == 4;

template <class Vector>
INLINE Vector shuffled(Vector values, const int8_t* order) {
    if constexpr (sizeof(Vector) == 32)
        return __builtin_shuffle(values, same_bits<EightInts>(_mm256_cvtepi8_epi32(eight_bytes(order))));
    else
        return __builtin_shuffle(values, same_bits<EightShorts>(_mm_cvtepi8_epi16(eight_bytes(order))));
}
#else
template <class Int>
constexpr bool CAN_SHUFFLE = false;

template <class Vector>
Vector shuffled(Vector values, const int8_t*) {
    return values;
}
#endif

// The first n lanes of a vector to memory.
INLINE void store_first(uint16_t* to, Halves value, int n) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    _mm256_mask_storeu_epi16(to, static_cast<__mmask16>((1u << n) - 1), same_bits<__m256i>(value));
#else
    for (int i = 0; i < n; i++) to[i] = value[i];
#endif
}

INLINE void store_first(float* to, Floats value, int n) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << n) - 1), same_bits<__m512>(value));
#elif defined(__AVX2__)
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane), same_bits<__m256>(value));
#else
    float lanes[LANES];
    store(lanes, value);
    for (int i = 0; i < n; i++) to[i] = lanes[i];
#endif
}

// from[0], from[stride], from[2 * stride], ... in lanes where the mask has ones; 0 in the others, which read nothing.
INLINE Ints load_where(Ints mask, const float* from, int64_t stride) {
#if defined(__AVX512F__)
    if (stride == 1)
        return same_bits<Ints>(_mm512_maskz_loadu_ps(_mm512_movepi32_mask(same_bits<__m512i>(mask)), from));
#elif defined(__AVX2__)
    if (stride == 1) return same_bits<Ints>(_mm256_maskload_ps(from, same_bits<__m256i>(mask)));
#endif
    Floats values{};
    for (int i = 0; i < LANES; i++) values[i] = mask[i] ? from[i * stride] : 0.0f;
    return same_bits<Ints>(values);
}

// With AVX-512 these are instructions. HAS_GATHER says so, because elsewhere there are better ways than their twins.
//   gather           x[at[0]], x[at[1]], ...; 0 in lanes where `at` is n or more, which read nothing
//   gather_for       x[at[0]], x[at[1]], ...; 0 in lanes whose factor is 0, which read nothing
//   chosen_lanes     the lanes of v whose bit is set, 0 elsewhere
//   expand_lanes     the next of `values` in every lane whose bit is set, 0 elsewhere
//   running_sum      v[0], v[0] + v[1], v[0] + v[1] + v[2], ...
//   last_everywhere  the last lane of v in every lane
//   every_second     from[0], from[2], from[4], ...
//   sum              of all lanes
#if WIDE
constexpr bool HAS_GATHER = true;

INLINE Floats gather(const float* x, Words at, uint32_t n) {
    __m512i offsets = same_bits<__m512i>(at);
    __mmask16 inside = _mm512_cmplt_epu32_mask(offsets, _mm512_set1_epi32(static_cast<int32_t>(n)));
    return same_bits<Floats>(_mm512_mask_i32gather_ps(_mm512_setzero_ps(), inside, offsets, x, sizeof(float)));
}

INLINE Floats gather_for(Floats factor, const float* x, Words at) {
    __mmask16 counts = _mm512_cmp_ps_mask(same_bits<__m512>(factor), _mm512_setzero_ps(), _CMP_NEQ_UQ);
    return same_bits<Floats>(_mm512_mask_i32gather_ps(_mm512_setzero_ps(), counts, same_bits<__m512i>(at), x, 4));
}

INLINE Floats chosen_lanes(uint32_t bits, Floats v) {
    return same_bits<Floats>(_mm512_maskz_mov_ps(bits, same_bits<__m512>(v)));
}

INLINE Floats expand_lanes(uint32_t bits, Floats values) {
    return same_bits<Floats>(_mm512_maskz_expand_ps(bits, same_bits<__m512>(values)));
}

INLINE float sum(Floats v) {
    v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    return v[0];
}

INLINE Ints running_sum(Ints v) {
    Ints o{};
    v += __builtin_shufflevector(o, v, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30);
    v += __builtin_shufflevector(o, v, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29);
    v += __builtin_shufflevector(o, v, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27);
    v += __builtin_shufflevector(o, v, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23);
    return v;
}

INLINE Ints last_everywhere(Ints v) {
    return __builtin_shufflevector(v, v, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15);
}

INLINE Floats every_second(const float* from) {
    Floats a = load<Floats>(from), b = load<Floats>(from + LANES);
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
#else
constexpr bool HAS_GATHER = false;

INLINE Floats gather(const float* x, Words at, uint32_t n) {
    Floats values{};
    for (int i = 0; i < LANES; i++) values[i] = at[i] < n ? x[at[i]] : 0.0f;
    return values;
}

INLINE Floats gather_for(Floats factor, const float* x, Words at) {
    Floats values{};
    for (int i = 0; i < LANES; i++) values[i] = factor[i] == 0 ? 0.0f : x[at[i]];
    return values;
}

INLINE Floats chosen_lanes(uint32_t bits, Floats v) {
    for (int i = 0; i < LANES; i++) v[i] = bits >> i & 1 ? v[i] : 0.0f;
    return v;
}

INLINE Floats expand_lanes(uint32_t bits, Floats values) {
    Floats expanded{};
    for (int i = 0, next = 0; i < LANES; next += bits >> i++ & 1) expanded[i] = bits >> i & 1 ? values[next] : 0.0f;
    return expanded;
}

INLINE Ints running_sum(Ints v) {
    for (int i = 1; i < LANES; i++) v[i] += v[i - 1];
    return v;
}

INLINE Ints last_everywhere(Ints v) { return v[LANES - 1] - Ints{}; }

INLINE Floats every_second(const float* from) {
    Floats v;
    for (int i = 0; i < LANES; i++) v[i] = from[i * 2];
    return v;
}

INLINE float sum(Floats v) {
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) v[i] += v[i + half];
    return v[0];
}
#endif

// walked[i] = gap[0] + 1 + ... + gap[i] + 1, where gaps after the first n count nothing.
INLINE void walk(const uint8_t* gap, int n, uint16_t* walked) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    const __m128i lane = _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7);
    __m128i steps = _mm_add_epi16(_mm_cvtepu8_epi16(eight_bytes(gap)), _mm_set1_epi16(1));
    steps = _mm_and_si128(steps, _mm_cmpgt_epi16(_mm_set1_epi16(n), lane));
    steps = _mm_add_epi16(steps, _mm_slli_si128(steps, 2));
    steps = _mm_add_epi16(steps, _mm_slli_si128(steps, 4));
    store(walked, _mm_add_epi16(steps, _mm_slli_si128(steps, 8)));
#else
    uint16_t sum = 0;
    for (int i = 0; i < LANES; i++) walked[i] = sum += i < n ? gap[i] + 1 : 0;
#endif
}

// The lower and the higher halves of two vectors, element by element in turn: a[0], b[0], a[1], b[1], ...
// And the reverse: the even and the odd elements of two vectors.
#if HAS_SHUFFLEVECTOR
constexpr bool HAS_INTERLEAVE = true;

#if defined(__AVX512F__)
#define LOWER_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGHER_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX__)
#define LOWER_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define HIGHER_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define LOWER_HALVES 0, 4, 1, 5
#define HIGHER_HALVES 2, 6, 3, 7
#endif
INLINE Floats interleave_lower(Floats a, Floats b) { return __builtin_shufflevector(a, b, LOWER_HALVES); }
INLINE Floats interleave_higher(Floats a, Floats b) { return __builtin_shufflevector(a, b, HIGHER_HALVES); }

#if defined(__AVX512F__)
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif defined(__AVX__)
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15
#else
#define EVENS 0, 2, 4, 6
#define ODDS 1, 3, 5, 7
#endif
INLINE Floats evens(Floats a, Floats b) { return __builtin_shufflevector(a, b, EVENS); }
INLINE Floats odds(Floats a, Floats b) { return __builtin_shufflevector(a, b, ODDS); }
#else
constexpr bool HAS_INTERLEAVE = false;

INLINE Floats interleave_lower(Floats a, Floats) { return a; }   // never called
INLINE Floats interleave_higher(Floats a, Floats) { return a; }  // never called
INLINE Floats evens(Floats a, Floats) { return a; }              // never called
INLINE Floats odds(Floats a, Floats) { return a; }               // never called
#endif

// ---- bytes -----------------------------------------------------------------------------------------------------------

// LANES integers in [-128, 255] as bytes.
INLINE void store_bytes(int8_t* to, Ints v) {
#if defined(__AVX512F__)
    store(to, _mm512_maskz_cvtepi32_epi8(0xffff, same_bits<__m512i>(v)));
#elif defined(__AVX2__)
    const __m256i last_bytes = _mm256_set1_epi32(0x0c080400), in_order = _mm256_setr_epi32(0, 4, 0, 0, 0, 0, 0, 0);
    const __m256i of_halves = _mm256_shuffle_epi8(same_bits<__m256i>(v), last_bytes);
    const __m256i bytes = _mm256_permutevar8x32_epi32(of_halves, in_order);
    memcpy(to, &bytes, LANES);
#else
    for (int i = 0; i < LANES; i++) to[i] = static_cast<int8_t>(v[i]);
#endif
}

// In every lane of 32 bits, four bytes of an input times four of a weight: their sum is added to another one. The result
// is exact, as long as 32 bits hold it. Each way has its ZERO, which stands for 0 among the bytes of inputs.
//
//   SignedBytes    on every CPU of the level: inputs in [-127, 127]
//   UnsignedBytes  where has_vnni(): inputs in [-127, 127] and 128
struct SignedBytes {
    static constexpr int32_t ZERO = 0;
#if defined(__AVX512BW__)
    __m512i magnitudes;
    __mmask64 negative;

    explicit SignedBytes(Ints weights)
        : magnitudes(_mm512_abs_epi8(same_bits<__m512i>(weights))),
          negative(_mm512_movepi8_mask(same_bits<__m512i>(weights))) {}

    INLINED Ints added(Ints sum, Ints inputs) const {
        __m512i bytes = same_bits<__m512i>(inputs);
        bytes = _mm512_mask_sub_epi8(bytes, negative, _mm512_setzero_si512(), bytes);
        const __m512i pairs = _mm512_maddubs_epi16(magnitudes, bytes);  // 2 * 128 * 127 fits into 16 bits
        return sum + same_bits<Ints>(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
    }
#elif defined(__AVX2__)
    __m256i weights, magnitudes;

    explicit SignedBytes(Ints w) : weights(same_bits<__m256i>(w)), magnitudes(_mm256_abs_epi8(weights)) {}

    INLINED Ints added(Ints sum, Ints inputs) const {
        const __m256i bytes = _mm256_sign_epi8(same_bits<__m256i>(inputs), weights);
        const __m256i pairs = _mm256_maddubs_epi16(magnitudes, bytes);  // 2 * 128 * 127 fits into 16 bits
        return sum + same_bits<Ints>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
#else
    typedef int16_t Pairs VECTOR(int16_t, 2 * LANES);
    Pairs even, odd;

    explicit SignedBytes(Ints weights) : even(same_bits<Pairs>(weights) << 8 >> 8), odd(same_bits<Pairs>(weights) >> 8) {}

    INLINED Ints added(Ints sum, Ints inputs) const {
        const Pairs bytes = same_bits<Pairs>(inputs);
        return sum + products(bytes << 8 >> 8, even) + products(bytes >> 8, odd);
    }

    // In every lane the sum of two products of 16 bits.
    static INLINED Ints products(Pairs a, Pairs b) {
#if defined(__SSE2__)
        return same_bits<Ints>(_mm_madd_epi16(same_bits<__m128i>(a), same_bits<__m128i>(b)));
#else
        const Ints of = same_bits<Ints>(a), by = same_bits<Ints>(b);
        return (of << 16 >> 16) * (by << 16 >> 16) + (of >> 16) * (by >> 16);
#endif
    }
#endif
};

#if defined(__AVX512F__) || defined(__AVX2__)
// Assembler, because the compiler was not told that the CPU has the instruction.
struct UnsignedBytes {
    static constexpr int32_t ZERO = 128;
    Ints weights;

    explicit UnsignedBytes(Ints w) : weights(w) {}

    INLINED Ints added(Ints sum, Ints inputs) const {
#if defined(__AVX512F__)
        asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(inputs), "v"(weights));
#else
        asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(inputs), "x"(weights));
#endif
        return sum;
    }
};

// AVX512_VNNI or AVX-VNNI: no level has them for sure.
static bool has_vnni() {
    unsigned a, b, c, d;
    const bool is_told = __get_cpuid_count(7, 0, &a, &b, &c, &d);
#if defined(__AVX512F__)
    return is_told && (c >> 11 & 1);
#else
    return is_told && a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
#endif
}
#else
using UnsignedBytes = SignedBytes;
static bool has_vnni() { return false; }
#endif

// base[at[0]], base[at[1]], ...
INLINE Ints gather_words(const int32_t* base, const uint16_t* at) {
#if defined(__AVX512F__)
    const __m512i places = same_bits<__m512i>(widen(at));
    return same_bits<Ints>(_mm512_mask_i32gather_epi32(_mm512_setzero_si512(), 0xffff, places, base, sizeof(int32_t)));
#else
    int32_t words[LANES];
    for (int i = 0; i < LANES; i++) words[i] = base[at[i]];
    return load<Ints>(words);
#endif
}
