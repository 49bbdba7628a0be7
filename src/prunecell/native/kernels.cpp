// The hot loops of prunecell, in portable C++17: compiler vector extensions, no Python, no OpenMP, no exceptions.
// The same file is compiled for several instruction-set levels; kernels.py loads the best that the CPU runs and calls
// it through ctypes. Every function is reentrant and keeps no state: threads belong to the caller.
//
//   1  the level of the CPU, the version of the source
//   2  vectors
//   3  memory of one call
//   4  a compressed matrix, and what makes it safe to read
//   5  decoding: any format into offsets and floats
//   6  decoded rows times a panel of inputs
//   7  rows times one vector
//   8  rows times blocks of positions
//   9  linear layers
//  10  convolutions
//  11  masks
//  12  words of archives
//
// Exported functions start with `pc_`. Those that need memory of their own return 0, or -1 if there was none.
//
// Intrinsics stand in section 2, and for eight gaps in section 7: gather and expand of AVX-512, widening and shuffles
// of AVX2, the conversion of half precision. Not every compiler makes these instructions from portable code, and with
// them the product with one vector takes 0.6 of the time.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define WIDE 1
#endif
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline, unused))
#define APART __attribute__((noinline))  // within larger functions the loops of these would get fewer registers

INLINE constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// ---- 1  the level of the CPU, the version of the source ------------------------------------------------------------

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
constexpr int LANES = 16, MAX_VECTORS = 8, ACCUMULATORS = 16;
#elif defined(__AVX__)
constexpr int LANES = 8, MAX_VECTORS = 8, ACCUMULATORS = 8;
#else
constexpr int LANES = 4, MAX_VECTORS = 8, ACCUMULATORS = 8;
#endif

// As many output positions as can be kept in registers at once, in MAX_VECTORS vectors; and as many as usually are.
constexpr int BLOCK = LANES * MAX_VECTORS, USUAL_BLOCK = BLOCK < 64 ? BLOCK : 64;

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

INLINE Ints lanes() {
    Ints lane{};
    for (int i = 0; i < LANES; i++) lane[i] = i;
    return lane;
}

INLINE Floats all(float value) { return value - Floats{}; }

// An IEEE half precision number.
struct Half {
    uint16_t bits;
};

#if defined(__AVX2__)
INLINE __m128i eight_bytes(const void* v) { return _mm_loadl_epi64(static_cast<const __m128i*>(v)); }
#endif

// LANES values, as 32-bit integers.
#if defined(__AVX2__) && !defined(__AVX512F__)
INLINE Ints widen(const uint16_t* v) { return same_bits<Ints>(_mm256_cvtepu16_epi32(load<__m128i>(v))); }
INLINE Ints widen(const uint8_t* v) { return same_bits<Ints>(_mm256_cvtepu8_epi32(eight_bytes(v))); }
INLINE Ints widen(const int8_t* v) { return same_bits<Ints>(_mm256_cvtepi8_epi32(eight_bytes(v))); }
#else
typedef uint16_t Shorts VECTOR(uint16_t, LANES);
typedef int16_t SignedShorts VECTOR(int16_t, LANES);
typedef uint8_t Bytes VECTOR(uint8_t, LANES);
typedef int8_t Chars VECTOR(int8_t, LANES);
// Bytes are widened in two steps, each of which is one instruction; in one step GCC does it byte by byte.
INLINE Ints widen(const uint16_t* v) { return __builtin_convertvector(load<Shorts>(v), Ints); }
INLINE Ints widen(const uint8_t* v) {
    return __builtin_convertvector(__builtin_convertvector(load<Bytes>(v), Shorts), Ints);
}
INLINE Ints widen(const int8_t* v) {
    return __builtin_convertvector(__builtin_convertvector(load<Chars>(v), SignedShorts), Ints);
}
#endif

// LANES values, as floats.
INLINE Floats floats(const float* v) { return load<Floats>(v); }
INLINE Floats floats(const int8_t* v) { return __builtin_convertvector(widen(v), Floats); }
INLINE Floats floats(const Half* v) {
#if defined(__AVX512F__)
    return same_bits<Floats>(_mm512_maskz_cvtph_ps(0xffff, load<__m256i>(v)));
#elif defined(__F16C__)
    return same_bits<Floats>(_mm256_cvtph_ps(load<__m128i>(v)));
#else
    Words half = same_bits<Words>(widen(&v->bits));
    Words magnitude = (half & 0x7fff) << 13, sign = (half & 0x8000) << 16;
    Words special = same_bits<Words>(magnitude >= 0x0f800000u) & 0x7f800000u;  // infinity and NaN
    Floats scaled = same_bits<Floats>(magnitude) * 0x1p112f;                   // another bias; subnormals come right
    return same_bits<Floats>(same_bits<Words>(scaled) | special | sign);
#endif
}

// Integers of any size side by side: as many as fit, but no more than one of them has bits.
template <class Int, int LENGTH = smaller(sizeof(Floats) / sizeof(Int), 8 * sizeof(Int))>
struct Vec {
    static constexpr int N = LENGTH;
    typedef Int Type VECTOR(Int, N);

    // -1 in lane i where bit i is set, 0 elsewhere.
    static Type spread(uint64_t bits) {
        Type bit{};
        for (int i = 0; i < N; i++) bit[i] = static_cast<Int>(uint64_t{1} << i);
        return ((static_cast<Int>(bits) - Type{}) & bit) == bit;
    }
};

struct Orders {
    int8_t at[256][8];
};

// Byte -> the lanes of its set bits, which come first; or for every lane, how many set bits lie before it.
constexpr Orders orders(bool gathered) {
    Orders orders{};
    for (int byte = 0; byte < 256; byte++)
        for (int lane = 0, n_set = 0; lane < 8; lane++) {
            if (!gathered)
                orders.at[byte][lane] = static_cast<int8_t>(n_set);
            else if (byte >> lane & 1)
                orders.at[byte][n_set] = static_cast<int8_t>(lane);
            n_set += byte >> lane & 1;
        }
    return orders;
}
constexpr Orders GATHERED = orders(true), SCATTERED = orders(false);

// Eight lanes in another order, where there is an instruction for it.
#if defined(__AVX2__) && !defined(__clang__)
template <class Int>
constexpr bool CAN_SHUFFLE = sizeof(Int) == 2 || sizeof(Int) == 4;

template <class Vector>
INLINE Vector shuffled(Vector values, const int8_t* order) {
    if constexpr (sizeof(Vector) == 32)
        return __builtin_shuffle(values, same_bits<Vec<int32_t, 8>::Type>(_mm256_cvtepi8_epi32(eight_bytes(order))));
    else
        return __builtin_shuffle(values, same_bits<Vec<int16_t, 8>::Type>(_mm_cvtepi8_epi16(eight_bytes(order))));
}
#else
template <class Int>
constexpr bool CAN_SHUFFLE = false;

template <class Vector>
Vector shuffled(Vector values, const int8_t*) {
    return values;
}
#endif

// The next of `values` in every lane whose bit is set, 0 elsewhere.
INLINE Floats expand(uint32_t bits, Floats values) {
#if WIDE
    return same_bits<Floats>(_mm512_maskz_expand_ps(bits, same_bits<__m512>(values)));
#else
    if constexpr (LANES == 8 && CAN_SHUFFLE<int32_t>)
        return same_bits<Floats>(shuffled(same_bits<Ints>(values), SCATTERED.at[bits]) & Vec<int32_t>::spread(bits));
    Floats expanded{};
    for (int i = 0, next = 0; i < LANES; next += bits >> i++ & 1) expanded[i] = bits >> i & 1 ? values[next] : 0.0f;
    return expanded;
#endif
}

#if WIDE
// x[at[0]], x[at[1]], ...
INLINE Floats gather(const float* x, Ints at) {
    __m512i offsets = same_bits<__m512i>(at);
    return same_bits<Floats>(_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, offsets, x, sizeof(float)));
}

INLINE float sum(Floats v) {
    v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    return v[0];
}

// v[0], v[0] + v[1], v[0] + v[1] + v[2], ...
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
#else
INLINE float sum(Floats v) {
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) v[i] += v[i + half];
    return v[0];
}
#endif

#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
#if defined(__AVX512F__)
#define LOW_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX__)
#define LOW_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define LOW_HALVES 0, 4, 1, 5
#define HIGH_HALVES 2, 6, 3, 7
#endif

// to[j][i] = from[i][j] for i, j < LANES. Interleaving the first half of the rows with the second, element by element,
// turns the numbers of row and column by one bit; after as many rounds as they have bits, they have changed places.
static void transpose_square(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
    Floats rows[LANES], turned[LANES];
    for (int i = 0; i < LANES; i++) rows[i] = load<Floats>(from + i * from_stride);
    for (int round = 1; round < LANES; round *= 2) {
        for (int i = 0; i < LANES / 2; i++) {
            turned[2 * i] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], LOW_HALVES);
            turned[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], HIGH_HALVES);
        }
        for (int i = 0; i < LANES; i++) rows[i] = turned[i];
    }
    for (int i = 0; i < LANES; i++) store(to + i * to_stride, rows[i]);
}
#else
static void transpose_square(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) to[j * to_stride + i] = from[i * from_stride + j];
}
#endif

// to[j][i] = from[i][j] for i < n_rows, j < n_columns.
static void transpose(const float* from, int64_t from_stride, int64_t n_rows, int64_t n_columns, float* to,
                      int64_t to_stride) {
    for (int64_t j0 = 0; j0 < n_columns; j0 += LANES)
        for (int64_t i0 = 0; i0 < n_rows; i0 += LANES) {
            const float* source = from + i0 * from_stride + j0;
            float* target = to + j0 * to_stride + i0;
            if (i0 + LANES <= n_rows && j0 + LANES <= n_columns) {
                transpose_square(source, from_stride, target, to_stride);
                continue;
            }
            for (int64_t i = 0; i < LANES && i0 + i < n_rows; i++)
                for (int64_t j = 0; j < LANES && j0 + j < n_columns; j++)
                    target[j * to_stride + i] = source[i * from_stride + j];
        }
}

// Short copies, which a call of memcpy would make slow.
INLINE void copy_floats(const float* from, int64_t n, float* to) {
    if (n >= LANES) {
        for (int64_t i = 0; i + LANES < n; i += LANES) store(to + i, load<Floats>(from + i));
        store(to + n - LANES, load<Floats>(from + n - LANES));
        return;
    }
    if (n & 8) memcpy(to, from, 8 * sizeof(float)), to += 8, from += 8;
    if (n & 4) memcpy(to, from, 4 * sizeof(float)), to += 4, from += 4;
    if (n & 2) memcpy(to, from, 2 * sizeof(float)), to += 2, from += 2;
    if (n & 1) *to = *from;
}

// from[0], from[stride], from[2 * stride], ...
INLINE Floats every(int64_t stride, const float* from) {
    Floats v;
    for (int i = 0; i < LANES; i++) v[i] = from[i * stride];
    return v;
}

INLINE Floats every_second(const float* from) {
#if WIDE
    Floats a = load<Floats>(from), b = load<Floats>(from + LANES);
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#else
    return every(2, from);
#endif
}

// ---- 3  memory of one call -----------------------------------------------------------------------------------------

constexpr int64_t CACHE_LINE = 64;

INLINE bool is_aligned(const float* at) { return reinterpret_cast<uintptr_t>(at) % (LANES * sizeof(float)) == 0; }
INLINE int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

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

// ---- 4  a compressed matrix, and what makes it safe to read --------------------------------------------------------

enum Format : int32_t { COLUMNS16 = 0, GAPS8 = 1, BITMASK = 2 };
enum ValueType : int32_t { FLOAT32 = 0, FLOAT16 = 1, INT8 = 2 };

// The kept entries of a matrix, row by row, columns ascending. kernels.py has the same fields in the same order.
struct Matrix {
    const int32_t* starts;  // n_rows + 1: entries [starts[r], starts[r + 1]) are row r's
    const void* indices;    // COLUMNS16: the column of every entry, uint16.
                            // GAPS8: the columns skipped since the entry before (or since -1), uint8; a gap that is
                            //   longer is bridged by entries of value 0.
                            // BITMASK: ceil(n_columns / 8) bytes a row, bit c % 8 of byte c / 8 set where kept.
    const void* values;     // one an entry, of value_type
    const float* scales;    // n_rows factors for the values, or null for ones
    int64_t n_entries;
    int32_t n_rows, n_columns;
    int32_t format, value_type;
};

INLINE int64_t mask_bytes(const Matrix& m) { return (m.n_columns + 7) / 8; }

static bool starts_are_sound(const Matrix& m) {
    if (m.starts[0] != 0 || m.starts[m.n_rows] != m.n_entries) return false;
    bool sound = true;
    for (int32_t r = 0; r < m.n_rows; r++) sound &= m.starts[r] <= m.starts[r + 1];
    return sound;
}

static bool columns_are_sound(const Matrix& m) {
    const uint16_t* column = static_cast<const uint16_t*>(m.indices);
    bool sound = true;
    for (int32_t r = 0; r < m.n_rows; r++) {
        int64_t begin = m.starts[r], end = m.starts[r + 1];
        for (int64_t k = begin + 1; k < end; k++) sound &= column[k - 1] < column[k];
        if (begin < end) sound &= column[end - 1] < m.n_columns;
    }
    return sound;
}

static bool gaps_are_sound(const Matrix& m) {
    const uint8_t* gap = static_cast<const uint8_t*>(m.indices);
    bool sound = true;
    for (int32_t r = 0; r < m.n_rows; r++) {
        int64_t begin = m.starts[r], end = m.starts[r + 1], width = end - begin;
        for (int64_t k = begin; k < end; k++) width += gap[k];
        sound &= width <= m.n_columns;
    }
    return sound;
}

static bool mask_is_sound(const Matrix& m) {
    const uint8_t* byte = static_cast<const uint8_t*>(m.indices);
    int past_the_end = m.n_columns % 8 ? 0xff << m.n_columns % 8 & 0xff : 0;
    bool sound = true;
    for (int32_t r = 0; r < m.n_rows; r++) {
        int64_t n = 0;
        for (int64_t i = 0; i < mask_bytes(m); i++) n += __builtin_popcount(*byte++);
        sound &= n == m.starts[r + 1] - m.starts[r] && (m.n_columns == 0 || !(byte[-1] & past_the_end));
    }
    return sound;
}

// 0 where no kernel can read outside of the matrix or of an input of n_columns features; else what is wrong:
// 1 starts, 2 columns, 3 gaps, 4 mask. The sizes of the arrays are the caller's to check.
EXPORT int32_t pc_what_is_wrong(const Matrix* m) {
    if (!starts_are_sound(*m)) return 1;
    if (m->format == COLUMNS16) return columns_are_sound(*m) ? 0 : 2;
    if (m->format == GAPS8) return gaps_are_sound(*m) ? 0 : 3;
    return mask_is_sound(*m) ? 0 : 4;
}

// ---- 5  decoding: any format into offsets and floats ---------------------------------------------------------------

// How many rows are decoded at once: so few that their entries, as offsets and values, and the outputs of a block of
// positions stay in a usual second-level cache (512 KiB each); and how many floats of a panel of inputs they read
// before they begin again with the next, half of such a cache.
constexpr int64_t GROUP_ENTRIES = 1 << 16, GROUP_ROWS = 2048, PANEL = 1 << 16;

// Entries that a group of rows may have.
static int64_t most_entries(const Matrix& m) {
    int32_t longest = 0;
    for (int32_t r = 0; r < m.n_rows; r++) longest = larger(longest, m.starts[r + 1] - m.starts[r]);
    return larger(smaller(GROUP_ENTRIES, m.n_entries), longest);
}

static void decode_gaps(const Matrix& m, int32_t r0, int32_t r1, int32_t* to) {
    const uint8_t* gap = static_cast<const uint8_t*>(m.indices);
    for (int32_t r = r0; r < r1; r++) {
        int32_t column = -1;
        for (int64_t k = m.starts[r]; k < m.starts[r + 1]; k++) *to++ = column += gap[k] + 1;
    }
}

static void decode_mask(const Matrix& m, int32_t r0, int32_t r1, int32_t* to) {
    const uint8_t* row = static_cast<const uint8_t*>(m.indices) + r0 * mask_bytes(m);
    for (int32_t r = r0; r < r1; r++, row += mask_bytes(m)) {
        for (int64_t i = 0; i < mask_bytes(m); i += 8) {
            uint64_t word = 0;
            memcpy(&word, row + i, smaller(8, mask_bytes(m) - i));
            for (; word; word &= word - 1) *to++ = 8 * i + __builtin_ctzll(word);
        }
    }
}

template <class Value>
static void decode_values(const Value* from, int64_t n, float* to) {
    int64_t k = 0;
    for (; k + LANES <= n; k += LANES) store(to + k, floats(from + k));
    if (k == n) return;
    Value last[LANES] = {};
    memcpy(last, from + k, (n - k) * sizeof(Value));
    Floats converted = floats(last);
    memcpy(to + k, &converted, (n - k) * sizeof(float));
}

// Rows [first, end) ready for the product: the values as floats, and of every entry the column as it stands in the
// matrix or, where that is no plain number, decoded. With a table, it is table[column] that stands for a column.
struct Decoded {
    const Matrix& matrix;
    const int32_t* table;
    bool plain_columns, plain_values;  // nothing is to be done for them
    Scratch<int32_t> decoded;
    Scratch<float> converted;
    const uint16_t* short_columns = nullptr;  // or
    const int32_t* columns = nullptr;
    const float* values = nullptr;
    int32_t first = 0, end = 0;

    Decoded(const Matrix& m, const int32_t* table_of_columns)
        : matrix(m),
          table(table_of_columns),
          plain_columns(m.format == COLUMNS16 && !table),
          plain_values(m.value_type == FLOAT32),
          decoded(plain_columns ? 0 : most_entries(m)),
          converted(plain_values ? 0 : most_entries(m)) {}

    bool has_memory() const { return decoded.at && converted.at; }

    int64_t entry(int32_t row) const { return matrix.starts[row] - matrix.starts[first]; }

    // The rows from r0 on, up to `stop` or as many as a group has; at least one.
    void read(int32_t r0, int32_t stop) {
        bool is_any_size = plain_columns && plain_values;
        first = r0, end = r0 + 1, stop = smaller(stop, r0 + GROUP_ROWS);
        while (end < stop && (is_any_size || entry(end + 1) <= GROUP_ENTRIES)) end++;
        short_columns = static_cast<const uint16_t*>(matrix.indices) + matrix.starts[first];
        columns = decoded.at;
        if (!plain_columns) read_columns();
        read_values(matrix.starts[first], entry(end));
    }

    void read_columns() {
        int64_t n = entry(end);
        if (matrix.format == GAPS8) decode_gaps(matrix, first, end, decoded.at);
        if (matrix.format == BITMASK) decode_mask(matrix, first, end, decoded.at);
        if (matrix.format == COLUMNS16)
            for (int64_t k = 0; k < n; k++) decoded.at[k] = table[short_columns[k]];
        else if (table)
            for (int64_t k = 0; k < n; k++) decoded.at[k] = table[decoded.at[k]];
    }

    void read_values(int64_t begin, int64_t n) {
        values = plain_values ? static_cast<const float*>(matrix.values) + begin : converted.at;
        if (matrix.value_type == FLOAT16)
            decode_values(static_cast<const Half*>(matrix.values) + begin, n, converted.at);
        if (matrix.value_type == INT8)
            decode_values(static_cast<const int8_t*>(matrix.values) + begin, n, converted.at);
    }
};

// ---- 6  decoded rows times a panel of inputs -----------------------------------------------------------------------

// What happens to a sum before it is stored: * scale of the row, + bias of the row, max(0, .).
struct Epilogue {
    const float* scales;  // or null for ones
    const float* biases;  // or null for zeros
    bool relu;
    float scale(int32_t row) const { return scales ? scales[row] : 1.0f; }
    float bias(int32_t row) const { return biases ? biases[row] : 0.0f; }
};

INLINE Floats finish(Floats sum, float scale, float bias, bool relu) {
    Floats y = sum * scale + bias;
    return relu ? y < 0 ? Floats{} : y : y;
}

// panel[column][position] of `width` positions; with a table the columns are offsets and the width is 1.
struct Panel {
    const float* at;
    int64_t width;
};

// The entries of a group of rows whose columns lie in one block: for the r-th row from(r) .. to(r), counted from the
// group's first. A row's sums go on from where the block before left them in y, and are finished after the last.
struct Piece {
    const int32_t *begin, *end;  // in the matrix
    int64_t first_entry;         // of the group
    bool is_first, is_last;
    int64_t from(int32_t r) const { return begin[r] - first_entry; }
    int64_t to(int32_t r) const { return end[r] - first_entry; }
};

// The columns of a group of rows in blocks, of so many that their part of a panel stays in the cache.
struct ColumnBlocks {
    int64_t size, n_blocks;
    Scratch<int32_t> edges;  // between two blocks, for every row of a group

    ColumnBlocks(int64_t n_columns, int64_t block)
        : size(block),
          n_blocks(larger(1, (n_columns + block / 4 * 3) / larger(1, block))),  // the last may have a quarter more
          edges((n_blocks - 1) * GROUP_ROWS) {}

    template <class Column>
    void find(const Decoded& rows, const Column* columns) {
        for (int32_t r = rows.first; r < rows.end; r++) {
            const Column *row = columns + rows.entry(r), *end = columns + rows.entry(r + 1);
            for (int64_t b = 1; b < n_blocks; b++) {
                int32_t n = 0, edge = rows.table ? rows.table[b * size] : b * size;
                for (const Column* c = row; c < end; c++) n += *c < edge;
                edges.at[(b - 1) * GROUP_ROWS + r - rows.first] = rows.matrix.starts[r] + n;
            }
        }
    }

    Piece piece(const Decoded& rows, int64_t b) const {
        const int32_t* starts = rows.matrix.starts + rows.first;
        bool is_first = b == 0, is_last = b == n_blocks - 1;
        return {is_first ? starts : edges.at + (b - 1) * GROUP_ROWS, is_last ? starts + 1 : edges.at + b * GROUP_ROWS,
                *starts, is_first, is_last};
    }
};

// Sums of value * x[column * width + 0 .. VECTORS * LANES) are added to those that are there. There are several chains
// of them, because an addition waits for the one before it longer than a processor needs to start the next.
template <int VECTORS, class Column>
INLINE void add_products(const Panel& panel, const Column* column, const float* value, int64_t n, Floats* sums) {
    constexpr int CHAINS = VECTORS == 1 ? 4 : VECTORS < 5 ? 8 / VECTORS : ACCUMULATORS / 8;
    Floats chains[CHAINS][VECTORS] = {};
    for (int i = 0; i < VECTORS; i++) chains[0][i] = sums[i];
    int64_t k = 0;
    for (; k + CHAINS <= n; k += CHAINS)
        for (int c = 0; c < CHAINS; c++)
            for (int i = 0; i < VECTORS; i++)
                chains[c][i] += value[k + c] * load<Floats>(panel.at + column[k + c] * panel.width + i * LANES);
    for (; k < n; k++)
        for (int i = 0; i < VECTORS; i++)
            chains[0][i] += value[k] * load<Floats>(panel.at + column[k] * panel.width + i * LANES);
    for (int c = 1; c < CHAINS; c++)
        for (int i = 0; i < VECTORS; i++) chains[0][i] += chains[c][i];
    for (int i = 0; i < VECTORS; i++) sums[i] = chains[0][i];
}

template <class T>
INLINE void ask_for_all(const T* from, const T* end) {
    const char *at = reinterpret_cast<const char*>(from), *until = reinterpret_cast<const char*>(end);
    for (; at < until; at += CACHE_LINE) __builtin_prefetch(at);
}

template <int VECTORS, class Column>
static void rows_product(const Decoded& rows, const Column* columns, const Piece& piece, const Panel& panel,
                         const Epilogue& then, float* y, int64_t y_stride) {
    const float* values = rows.values;
    const int32_t n_rows = rows.end - rows.first;
    for (int32_t r = 0; r < n_rows; r++, y += y_stride) {
        int64_t k = piece.from(r), n = piece.to(r) - k;
        if (VECTORS > 2 && r + 1 < n_rows) {  // pieces lie apart: the CPU does not see the next one coming
            ask_for_all(values + piece.from(r + 1), values + piece.to(r + 1));
            ask_for_all(columns + piece.from(r + 1), columns + piece.to(r + 1));
            if (!piece.is_first) ask_for_all(y + y_stride, y + y_stride + VECTORS * LANES);
        }
        Floats sums[VECTORS] = {};
        if (!piece.is_first)
            for (int i = 0; i < VECTORS; i++) sums[i] = load<Floats>(y + i * LANES);
        add_products<VECTORS>(panel, columns + k, values + k, n, sums);
        if (piece.is_last) {
            float scale = then.scale(rows.first + r), bias = then.bias(rows.first + r);
            for (int i = 0; i < VECTORS; i++) sums[i] = finish(sums[i], scale, bias, then.relu);
        }
        for (int i = 0; i < VECTORS; i++) store(y + i * LANES, sums[i]);
    }
}

// The first `n_vectors` vectors of a panel, 1 to MAX_VECTORS.
template <class Column>
static void panel_product(int n_vectors, const Decoded& rows, const Column* columns, const Piece& piece,
                          const Panel& panel, const Epilogue& then, float* y, int64_t y_stride) {
    switch (n_vectors) {
        case 1: return rows_product<1>(rows, columns, piece, panel, then, y, y_stride);
        case 2: return rows_product<2>(rows, columns, piece, panel, then, y, y_stride);
        case 3: return rows_product<3>(rows, columns, piece, panel, then, y, y_stride);
        case 4: return rows_product<4>(rows, columns, piece, panel, then, y, y_stride);
        case 5: return rows_product<5>(rows, columns, piece, panel, then, y, y_stride);
        case 6: return rows_product<6>(rows, columns, piece, panel, then, y, y_stride);
        case 7: return rows_product<7>(rows, columns, piece, panel, then, y, y_stride);
        case 8: return rows_product<8>(rows, columns, piece, panel, then, y, y_stride);
    }
}

// ---- 7  rows times one vector --------------------------------------------------------------------------------------

// Entries that are asked for so many ahead: a matrix that is in no cache comes in half the time.
constexpr int64_t AHEAD = 512;

template <class Index, class Value>
INLINE void ask_for(const Index* index, const Value* value, int64_t n) {
    for (int64_t i = 0; i < n * (int64_t)sizeof(Value); i += CACHE_LINE)
        __builtin_prefetch(reinterpret_cast<const char*>(value + AHEAD) + i);
    __builtin_prefetch(index + AHEAD);
}

// Copies of the last few elements of an array, from which a whole vector can be loaded.
template <class T>
struct Last {
    T at[LANES] = {};
    Last(const T* from, int64_t n) {
        if (n) memcpy(at, from, n * sizeof(T));
    }
};

// x[column] of the next LANES entries, of which the first n count. Gaps are walked `from` the column before.
#if WIDE

typedef Ints Column;  // the same in every lane

INLINE Ints first_lanes(int n) { return lanes() < (n - Ints{}); }

INLINE Floats inputs(const float* x, const uint16_t* column, int n, Column&) {
    return gather(x, widen(column) & first_lanes(n));
}
INLINE Floats inputs(const float* x, const uint8_t* gap, int n, Column& from) {
    Ints columns = from + running_sum(widen(gap) + 1);
    from = last_everywhere(columns);
    return gather(x, columns & first_lanes(n));
}

#else

typedef int32_t Column;

// Two columns come in one load, because loads are what this waits for. Columns of later rows may be read too.
INLINE Floats inputs(const float* x, const uint16_t* column, int, Column&) {
    Floats values{};
    for (int i = 0; i < LANES; i += 2) {
        uint32_t two;
        memcpy(&two, column + i, sizeof(two));
        values[i] = x[two & 0xffff], values[i + 1] = x[two >> 16];
    }
    return values;
}

// How far LANES gaps lead, one after the other; those after the first n lead nowhere.
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

INLINE Floats inputs(const float* x, const uint8_t* gap, int n, Column& from) {
    uint16_t walked[LANES];
    walk(gap, n, walked);
    Floats values = inputs(x + from, walked, n, from);
    from += walked[LANES - 1];
    return values;
}

#endif

// The sum of value * x[column] over a row of n entries; `readable` of them may be read, those after the row included.
template <class Index, class Value>
INLINE float dot(const Index* index, const Value* value, int64_t n, int64_t readable, const float* x) {
    Floats even{}, odd{};
    Column from = Column{} - 1;
    int64_t k = 0;
    for (; k + 2 * LANES <= n; k += 2 * LANES) {
        ask_for(index + k, value + k, 2 * LANES);
        even += floats(value + k) * inputs(x, index + k, LANES, from);
        odd += floats(value + k + LANES) * inputs(x, index + k + LANES, LANES, from);
    }
    for (; k + LANES <= n; k += LANES) even += floats(value + k) * inputs(x, index + k, LANES, from);
    if (k < n) {
        int n_left = n - k;
        Floats last = k + LANES <= readable ? floats(value + k) * inputs(x, index + k, n_left, from)
                                            : floats(Last<Value>(value + k, n_left).at) *
                                                  inputs(x, Last<Index>(index + k, n_left).at, n_left, from);
        odd += same_bits<Floats>(same_bits<Ints>(last) & (lanes() < (n_left - Ints{})));
    }
    return sum(even + odd);
}

// The bits of a row's columns [c, c + LANES).
INLINE uint32_t bits_at(const uint8_t* mask, int64_t c, int64_t n_columns) {
    if (LANES <= 8) return mask[c / 8] >> c % 8 & ((1 << LANES) - 1);
    return mask[c / 8] | (c + 8 < n_columns ? mask[c / 8 + 1] << 8 : 0);
}

// The same for a bit mask: `tail` holds the inputs after the last whole vector of them, zeros behind.
template <class Value>
INLINE float masked_dot(const uint8_t* mask, const Value* value, int64_t readable, int64_t n_columns, const float* x,
                        const float* tail) {
    Floats total{}, odd{};
    const Value* end = value + readable;
    int64_t c = 0;
    for (; c + LANES <= n_columns && end - value >= LANES; c += LANES) {
        uint32_t bits = bits_at(mask, c, n_columns);
        Floats sums = total + expand(bits, floats(value)) * load<Floats>(x + c);
        total = odd, odd = sums;
        value += __builtin_popcount(bits);
    }
    total += odd;
    for (; c < n_columns; c += LANES) {
        uint32_t bits = bits_at(mask, c, n_columns);
        int n = __builtin_popcount(bits);
        total += expand(bits, floats(Last<Value>(value, n).at)) * load<Floats>(c + LANES <= n_columns ? x + c : tail);
        value += n;
    }
    return sum(total);
}

template <class Value>
static void vector_product(const Matrix& m, int32_t r0, int32_t r1, const float* x, const Epilogue& then, float* y,
                           int64_t y_stride) {
    const Value* values = static_cast<const Value*>(m.values);
    const uint8_t* bytes = static_cast<const uint8_t*>(m.indices);
    int64_t whole = m.n_columns / LANES * LANES;
    Last<float> tail(x + whole, m.n_columns - whole);
    for (int32_t r = r0; r < r1; r++) {
        int64_t k = m.starts[r], n = m.starts[r + 1] - k, readable = m.n_entries - k;
        const uint16_t* columns = static_cast<const uint16_t*>(m.indices) + k;
        float total = m.format == COLUMNS16 ? dot(columns, values + k, n, readable, x)
                      : m.format == GAPS8   ? dot(bytes + k, values + k, n, readable, x)
                                            : masked_dot(bytes + r * mask_bytes(m), values + k, readable, m.n_columns,
                                                         x, tail.at);
        y[r * y_stride] = finish(all(total), then.scale(r), then.bias(r), then.relu)[0];
    }
}

static void one_vector(const Matrix& m, int32_t r0, int32_t r1, const float* x, const Epilogue& then, float* y,
                       int64_t y_stride) {
    if (m.value_type == FLOAT32) vector_product<float>(m, r0, r1, x, then, y, y_stride);
    if (m.value_type == FLOAT16) vector_product<Half>(m, r0, r1, x, then, y, y_stride);
    if (m.value_type == INT8) vector_product<int8_t>(m, r0, r1, x, then, y, y_stride);
}

// ---- 8  rows times blocks of positions -----------------------------------------------------------------------------

// The rows [r0, r1) times `n` positions, in blocks of `input.width`. The input is asked for a chunk of them after the
// other, as a panel [column][position], which is one block, or as one in which table[column] is where a column starts.
// The output is told where a group of rows of a block goes, or takes it from a tile [row][position] where it does not
// lie in whole vectors.
template <class Column, class Input, class Output>
APART static int product(Decoded& rows, const Column* const& columns, int32_t r0, int32_t r1, int64_t n, Input& input,
                         const Epilogue& then, const Output& output) {
    ColumnBlocks blocks(rows.matrix.n_columns, input.columns_at_once());
    Scratch<float> tile(smaller(GROUP_ROWS, r1 - r0) * BLOCK);
    if (!rows.has_memory() || !blocks.edges.at || !tile.at) return -1;
    for (int32_t first = r0; first < r1; first = rows.end) {
        rows.read(first, r1);
        blocks.find(rows, columns);
        for (int64_t begin = 0, end; begin < n; begin = end) {
            end = smaller(n, begin + input.chunk);
            const float* panel_at = input.panel(begin, end - begin);
            for (int64_t s = begin; s < end; s += input.width) {
                int64_t n_here = smaller(input.width, end - s);
                int n_vectors = (n_here + LANES - 1) / LANES;
                Panel panel{panel_at + s - begin, input.table() ? 1 : input.width};
                float* to = n_here % LANES ? nullptr : output.place(first, s, n_here);
                for (int64_t b = 0; b < blocks.n_blocks; b++)
                    panel_product(n_vectors, rows, columns, blocks.piece(rows, b), panel, then, to ? to : tile.at,
                                  to ? output.row_stride() : BLOCK);
                if (!to) output.take(tile.at, first, rows.end - first, s, n_here);
            }
        }
    }
    return 0;
}

template <class Input, class Output>
static int product(const Matrix& m, int32_t r0, int32_t r1, int64_t n, Input& input, const Epilogue& then,
                   const Output& output) {
    Decoded rows(m, input.table());
    return rows.plain_columns ? product(rows, rows.short_columns, r0, r1, n, input, then, output)
                              : product(rows, rows.columns, r0, r1, n, input, then, output);
}

// How many positions a panel has.
static int64_t panel_width(int64_t n_positions) { return smaller(USUAL_BLOCK, round_up(n_positions, LANES)); }

// ---- 9  linear layers ----------------------------------------------------------------------------------------------

// Activations of a linear layer: element (feature f, sample s) is at[f * feature_stride + s * sample_stride], one of
// the strides being 1.
struct Activations {
    float* at;
    int64_t feature_stride, sample_stride;
    bool feature_major() const { return sample_stride == 1; }
};

struct LinearInput {
    Activations x;
    int64_t n_features, n_samples, width, chunk;
    bool in_place;  // one panel, that x is already
    Scratch<float> packed;

    LinearInput(const Activations& activations, int64_t features, int64_t samples)
        : x(activations),
          n_features(features),
          n_samples(samples),
          width(panel_width(samples)),
          chunk(width),
          in_place(x.feature_major() && x.feature_stride == width && n_samples == width && is_aligned(x.at)),
          packed(in_place ? 0 : n_features * round_up(n_samples, width)) {
        if (packed.at && !in_place) pack();
    }

    const int32_t* table() const { return nullptr; }
    int64_t columns_at_once() const { return PANEL / width; }
    const float* panel(int64_t s, int64_t) const { return in_place ? x.at : packed.at + s * n_features; }

    void pack() {
        for (int64_t s = 0; s < n_samples; s += width) {
            float* to = packed.at + s * n_features;
            int64_t n = smaller(width, n_samples - s);
            if (n < width) memset(to, 0, n_features * width * sizeof(float));
            if (x.feature_major())
                for (int64_t f = 0; f < n_features; f++)
                    copy_floats(x.at + f * x.feature_stride + s, n, to + f * width);
            else
                transpose(x.at + s * x.sample_stride, x.sample_stride, n, n_features, to, width);
        }
    }
};

struct LinearOutput {
    Activations y;

    int64_t row_stride() const { return y.feature_stride; }

    float* place(int32_t row, int64_t s, int64_t) const {
        return y.feature_major() ? y.at + row * y.feature_stride + s : nullptr;
    }

    void take(const float* tile, int32_t row, int64_t n_rows, int64_t s, int64_t n) const {
        float* to = y.at + row * y.feature_stride + s * y.sample_stride;
        if (y.feature_major())
            for (int64_t r = 0; r < n_rows; r++) copy_floats(tile + r * BLOCK, n, to + r * y.feature_stride);
        else
            transpose(tile, BLOCK, n_rows, n, to, y.sample_stride);
    }
};

// y = x W^T + bias, then max(0, .) where asked, for the rows [r0, r1) of W. Strides are in floats. With one sample the
// input must be contiguous.
EXPORT int32_t pc_linear(const Matrix* m, const float* bias, int32_t relu, float* x, int64_t x_feature_stride,
                         int64_t x_sample_stride, int64_t n_samples, float* y, int64_t y_feature_stride,
                         int64_t y_sample_stride, int32_t r0, int32_t r1) {
    Epilogue then{m->scales, bias, relu != 0};
    if (n_samples == 1) {
        one_vector(*m, r0, r1, x, then, y, y_feature_stride);
        return 0;
    }
    LinearInput input({x, x_feature_stride, x_sample_stride}, m->n_columns, n_samples);
    if (!input.packed.at) return -1;
    return product(*m, r0, r1, n_samples, input, then, LinearOutput{{y, y_feature_stride, y_sample_stride}});
}

// ---- 10  convolutions ----------------------------------------------------------------------------------------------

enum Axis { DEPTH, HEIGHT, WIDTH, AXES };

// A convolution of one to three axes; those that are missing come first, with size 1. The matrix has a row per output
// channel and a column per (input channel of the group, kernel position). kernels.py has the same fields.
struct Geometry {
    int32_t groups, in_channels, out_channels;
    int32_t size[AXES], out[AXES], kernel[AXES], stride[AXES], padding[AXES], dilation[AXES];

    int64_t in_volume() const { return (int64_t)size[DEPTH] * size[HEIGHT] * size[WIDTH]; }
    int64_t out_volume() const { return (int64_t)out[DEPTH] * out[HEIGHT] * out[WIDTH]; }
    int64_t kernel_volume() const { return (int64_t)kernel[DEPTH] * kernel[HEIGHT] * kernel[WIDTH]; }
    int32_t group_rows() const { return out_channels / groups; }
    int32_t group_channels() const { return in_channels / groups; }
    bool has_unit_strides() const { return stride[DEPTH] == 1 && stride[HEIGHT] == 1 && stride[WIDTH] == 1; }

    // The number of an output, one sample after the other.
    int64_t position(int64_t d, int64_t h, int64_t w) const { return (d * out[HEIGHT] + h) * out[WIDTH] + w; }

    // The element that output o of an axis reads under kernel element k; it may lie in the padding.
    int64_t source(int axis, int64_t o, int64_t k) const {
        return o * stride[axis] + k * dilation[axis] - padding[axis];
    }
    bool is_inside(int axis, int64_t i) const { return 0 <= i && i < size[axis]; }
};

// Where the output of a number lies.
struct Place {
    int64_t sample, d, h, w;
    Place(const Geometry& g, int64_t position) {
        w = position % g.out[WIDTH], position /= g.out[WIDTH];
        h = position % g.out[HEIGHT], position /= g.out[HEIGHT];
        d = position % g.out[DEPTH], sample = position / g.out[DEPTH];
    }

    // By n positions, within a row or to the beginning of the next.
    void advance(const Geometry& g, int64_t n) {
        if ((w += n) < g.out[WIDTH]) return;
        w = 0;
        if (++h < g.out[HEIGHT]) return;
        h = 0;
        if (++d < g.out[DEPTH]) return;
        d = 0, sample++;
    }
};

// The same 1x1 convolution with all positions in one row, of which longer pieces can be copied at once.
static Geometry as_one_row(Geometry g) {
    if (g.kernel_volume() != 1 || !g.has_unit_strides()) return g;
    if (g.padding[DEPTH] || g.padding[HEIGHT] || g.padding[WIDTH]) return g;
    g.out[WIDTH] = g.size[WIDTH] = g.in_volume();
    g.out[DEPTH] = g.size[DEPTH] = g.out[HEIGHT] = g.size[HEIGHT] = 1;
    return g;
}

// The convolution with kernel size 1 along the depth, the height and, if it is `wide`, the width, whose outputs are the
// padded input along these axes. The padding between two rows is shared: it ends one and begins the next. Along another
// width the rows are made as long as whole vectors.
static Geometry as_padding(Geometry g, bool wide) {
    for (int axis = 0; axis < (wide ? AXES : WIDTH); axis++) {
        int64_t end = g.out[axis] + (g.kernel[axis] - 1) * (int64_t)g.dilation[axis];  // of what is read
        int64_t used = larger(0, smaller(g.size[axis], end - g.padding[axis]));
        g.out[axis] = larger(g.out[axis], larger(g.padding[axis] + used, end - g.padding[axis]));
        g.kernel[axis] = g.dilation[axis] = 1;
    }
    if (!wide) g.out[WIDTH] = round_up(g.out[WIDTH], LANES);
    return g;
}

// How a convolution is computed. In a plain panel every (channel, kernel position) has its own copy of what the
// outputs of a block read, at a cache line. In a shared one kernel positions are offsets into fewer copies of the
// padded input, a chunk of many blocks long, and the outputs are computed as if they were as many as that has elements.
// There may be a copy for every (channel, kernel column), whose rows begin at a cache line; or, for few channels, of
// which a block reads little enough for the second-level cache, one for every channel, read across cache lines.
struct Layout {
    Geometry real;
    Geometry copied;             // whose panel is made and whose outputs are numbered: the real one, or as_padding
    bool shared;
    int64_t n_samples, n_positions;  // that are computed
    int64_t width, chunk;            // of them, in a block and in a panel
    int64_t beyond = 0;              // what the farthest kernel position reads behind them

    Layout(const Geometry& g, int64_t samples, int64_t block)
        : real(g),
          copied(g),
          shared(false),
          n_samples(samples),
          n_positions(samples * g.out_volume()),
          width(block),
          chunk(block) {}

    Layout(const Geometry& g, const Geometry& padded, int64_t samples, int64_t block)
        : real(g), copied(padded), shared(true), n_samples(samples), width(block), chunk(block) {
        n_positions = (samples - 1) * padded.out_volume() + 1 +
                      padded.position(g.out[DEPTH] - 1, g.out[HEIGHT] - 1, g.out[WIDTH] - 1);
        beyond = offset(g.kernel[DEPTH] - 1, g.kernel[HEIGHT] - 1, g.kernel[WIDTH] - 1);
        int64_t n_blocks = (PANEL / n_copies() - beyond) / block;
        chunk = block * larger(1, smaller(n_blocks, (n_positions + block - 1) / block));
    }

    // Of a kernel position in a shared copy.
    int64_t offset(int64_t kd, int64_t kh, int64_t kw) const {
        int64_t w = has_copy_per_column() ? 0 : kw * real.dilation[WIDTH];
        return copied.position(kd * real.dilation[DEPTH], kh * real.dilation[HEIGHT], w);
    }

    bool has_copy_per_column() const { return copied.kernel[WIDTH] == real.kernel[WIDTH]; }
    int64_t n_copies() const { return real.group_channels() * copied.kernel_volume(); }
    int64_t extent() const { return chunk + beyond; }  // of a copy
    int64_t panel_size() const { return n_copies() * extent(); }
    int64_t read_by_a_block() const { return n_copies() * (width + beyond); }

    // About how long it takes, in times of copying 16 floats, with so many entries of the matrix in a group. Copies are
    // made in segments of a row, the last of which may be short, and which are found once for all channels. An entry
    // times 64 positions takes longer where it reads the second-level cache, or across cache lines, as every second
    // vector does, and every one of 16 lanes.
    double cost(int64_t n_entries) const {
        double whole_segments = (double)round_up(copied.out[WIDTH], LANES) / copied.out[WIDTH];
        double copy = whole_segments * (1 + 6.0 / real.group_channels());
        double entry = !shared                ? 1.6 + smaller(read_by_a_block(), LARGE) / (4.0 * LARGE)
                       : has_copy_per_column() ? 1.3
                       : LANES > 8             ? 1.75
                                               : 1.4;
        return (double)n_positions / chunk * panel_size() / 16 * copy + (double)n_positions / 64 * n_entries * entry;
    }

    // In floats: three quarters of a first-level cache of 32 KiB, parts of the second and the third level.
    static constexpr int64_t FIRST_LEVEL = 6144, SMALL = 1 << 15, LARGE = 1 << 18;
};

static Layout best_layout(const Geometry& g, int64_t samples, const Matrix& m) {
    int64_t n_entries = m.n_entries / g.groups;
    Layout best(g, samples, panel_width(samples * g.out_volume()));
    auto consider = [&](const Layout& other, int64_t largest) {
        if (other.read_by_a_block() <= largest && other.cost(n_entries) < best.cost(n_entries)) best = other;
    };
    if (g.kernel_volume() == 1 || g.stride[DEPTH] != 1 || g.stride[HEIGHT] != 1) return best;
    consider(Layout(g, as_padding(g, false), samples, USUAL_BLOCK), Layout::LARGE);
    consider(Layout(g, as_padding(g, false), samples, BLOCK), Layout::LARGE / 4);
    if (g.stride[WIDTH] == 1) consider(Layout(g, as_padding(g, true), samples, BLOCK), Layout::SMALL);
    return best;
}

// A few neighbouring outputs of one row under one kernel position: the panel's [to, to + LANES) is read from the
// channel's [from + lane * stride], and what the mask does not have is padding.
struct Segment {
    Ints mask;
    int64_t from, to;
};

struct ConvolutionInput {
    const Layout& layout;
    const Geometry& g;
    const float *x, *past;  // the whole input
    int64_t width, chunk, channel = 0;  // the first of the group
    int64_t n_segments = 0, lowest = 0, highest = 0;
    Scratch<Segment> segments;
    Scratch<float> floats;
    Scratch<int32_t> offsets;

    ConvolutionInput(const Layout& l, const float* input)
        : layout(l),
          g(l.copied),
          x(input),
          past(x + l.n_samples * g.in_channels * g.in_volume()),
          width(l.width),
          chunk(l.chunk),
          segments(g.kernel_volume() * l.extent()),
          floats(l.panel_size() + LANES),
          offsets(l.shared ? l.real.group_channels() * l.real.kernel_volume() : 0) {
        if (l.shared && offsets.at) find_offsets();
    }

    bool has_memory() const { return segments.at && floats.at && offsets.at; }

    const int32_t* table() const { return layout.shared ? offsets.at : nullptr; }

    // The kernel positions of a channel read the same elements: soon enough to find them in the first-level cache.
    int64_t columns_at_once() const {
        if (!layout.shared) return PANEL / width;
        int64_t read_of_a_channel = layout.read_by_a_block() / layout.real.group_channels();
        return layout.real.kernel_volume() * larger(1, Layout::FIRST_LEVEL / read_of_a_channel);
    }

    void find_offsets() {
        const Geometry& real = layout.real;
        int32_t* offset = offsets.at;
        for (int64_t c = 0; c < real.group_channels(); c++)
            for (int64_t d = 0; d < real.kernel[DEPTH]; d++)
                for (int64_t h = 0; h < real.kernel[HEIGHT]; h++)
                    for (int64_t w = 0; w < real.kernel[WIDTH]; w++) {
                        int64_t copy = layout.has_copy_per_column() ? c * g.kernel[WIDTH] + w : c;
                        *offset++ = copy * layout.extent() + layout.offset(d, h, w);
                    }
    }

    APART const float* panel(int64_t s, int64_t n) {
        find_segments(s, n + layout.beyond);
        float* to = floats.at;
        for (int64_t c = 0; c < g.group_channels(); c++, to += g.kernel_volume() * layout.extent()) {
            const float* from = x + (channel + c) * g.in_volume();
            if (from + lowest < x || from + highest > past)
                copy_carefully(from, to);
            else if (g.stride[WIDTH] == 1)
                copy(from, to);
            else
                copy_strided(from, to);
        }
        return floats.at;
    }

    // What is written behind a segment, the next overwrites.
    void copy(const float* from, float* to) const {
        const Segment *segment = segments.at, *end = segment + n_segments;
        for (; segment < end; segment++)
            store(to + segment->to, load<Ints>(from + segment->from) & segment->mask);
    }

    void copy_strided(const float* from, float* to) const {
        int64_t stride = g.stride[WIDTH];
        const Segment *segment = segments.at, *end = segment + n_segments;
        for (; segment < end; segment++) {
            Floats values = stride == 2 ? every_second(from + segment->from) : every(stride, from + segment->from);
            store(to + segment->to, same_bits<Ints>(values) & segment->mask);
        }
    }

    // Element by element, where a whole vector would lie outside of the input.
    void copy_carefully(const float* from, float* to) const {
        for (int64_t i = 0; i < n_segments; i++) {
            const Segment& segment = segments.at[i];
            for (int lane = 0; lane < LANES; lane++)
                to[segment.to + lane] = segment.mask[lane] ? from[segment.from + lane * g.stride[WIDTH]] : 0.0f;
        }
    }

    // Of n positions from s on, under every kernel position.
    void find_segments(int64_t s, int64_t n) {
        n_segments = lowest = highest = 0;
        int64_t to = 0;
        for (int64_t d = 0; d < g.kernel[DEPTH]; d++)
            for (int64_t h = 0; h < g.kernel[HEIGHT]; h++)
                for (int64_t w = 0; w < g.kernel[WIDTH]; w++, to += layout.extent()) {
                    Place place(g, s);
                    for (int64_t i = 0, n_here; i < n; i += n_here, place.advance(g, n_here)) {
                        n_here = smaller(smaller(n - i, LANES), g.out[WIDTH] - place.w);
                        add_segment(place, n_here, d, h, w, to + i);
                    }
                }
    }

    void add_segment(const Place& o, int64_t n, int64_t kd, int64_t kh, int64_t kw, int64_t to) {
        int64_t d = g.source(DEPTH, o.d, kd), h = g.source(HEIGHT, o.h, kh), w = g.source(WIDTH, o.w, kw);
        bool has_row = o.sample < layout.n_samples && g.is_inside(DEPTH, d) && g.is_inside(HEIGHT, h);
        const Ints lane = lanes(), at = lane * g.stride[WIDTH] + (int32_t)w;
        Segment& segment = segments.at[n_segments++];
        segment.mask = (lane < (int32_t)(has_row ? n : 0)) & (at >= 0) & (at < g.size[WIDTH]);
        segment.to = to;
        segment.from = has_row ? o.sample * g.in_channels * g.in_volume() + (d * g.size[HEIGHT] + h) * g.size[WIDTH] + w
                               : 0;
        lowest = smaller(lowest, segment.from);
        highest = larger(highest, segment.from + LANES * g.stride[WIDTH]);
    }
};

struct ConvolutionOutput {
    const Layout& layout;
    float* y;

    int64_t row_stride() const { return layout.real.out_volume(); }

    float* at(int32_t row, const Place& o) const {
        const Geometry& g = layout.real;
        return y + (o.sample * g.out_channels + row) * g.out_volume() + g.position(o.d, o.h, o.w);
    }

    float* place(int32_t row, int64_t s, int64_t n) const {
        bool in_one_sample = s % row_stride() + n <= row_stride();
        return !layout.shared && in_one_sample ? at(row, Place(layout.real, s)) : nullptr;
    }

    // Without what was computed between the rows of the outputs. Channel after channel, each with all its stretches of
    // outputs, so that what is written lies together.
    void take(const float* tile, int32_t row, int64_t n_rows, int64_t s, int64_t n) const {
        struct Stretch {
            int64_t from, n;
            float* to;  // of the first channel
        } stretches[BLOCK];
        int n_stretches = 0;
        const Geometry& g = layout.real;
        for (int64_t i = 0, n_here; i < n; i += n_here) {
            Place o(layout.copied, s + i);
            n_here = smaller(n - i, layout.copied.out[WIDTH] - o.w);
            int64_t n_real = smaller(n_here, g.out[WIDTH] - o.w);
            if (n_real > 0 && o.d < g.out[DEPTH] && o.h < g.out[HEIGHT])
                stretches[n_stretches++] = {i, n_real, at(row, o)};
        }
        for (int64_t r = 0; r < n_rows; r++)
            for (const Stretch *stretch = stretches; stretch < stretches + n_stretches; stretch++)
                copy_floats(tile + r * BLOCK + stretch->from, stretch->n, stretch->to + r * row_stride());
    }
};

// y = convolution of x (samples, channels, depth, height, width; contiguous) + bias, then max(0, .) where asked, for
// n_samples from x and y on and the output channels [r0, r1).
EXPORT int32_t pc_convolution(const Matrix* m, const float* bias, int32_t relu, const Geometry* geometry,
                              const float* x, float* y, int64_t n_samples, int32_t r0, int32_t r1) {
    Layout layout = best_layout(as_one_row(*geometry), n_samples, *m);
    ConvolutionInput input(layout, x);
    if (!input.has_memory()) return -1;
    Epilogue then{m->scales, bias, relu != 0};
    int32_t failed = 0, group_rows = geometry->group_rows();
    for (int32_t row = r0, end; row < r1 && !failed; row = end) {
        int32_t group = row / group_rows;
        end = smaller(r1, (group + 1) * group_rows);
        input.channel = group * geometry->group_channels();
        failed = product(*m, row, end, layout.n_positions, input, then, ConvolutionOutput{layout, y});
    }
    return failed;
}

// ---- 11  masks -----------------------------------------------------------------------------------------------------
//
// Weight i is bit i % 8 of byte i / 8; a set bit keeps. Weights of any type are integers of their size here; a float's
// bits without the sign are its key, which orders as the magnitude does. The work is done in groups of 64 weights,
// written as plain loops that the compiler turns into vectors: `n` is a constant there but for the last, short group.

constexpr int GROUP = 64;

#define INLINED __attribute__((always_inline))  // of a lambda

// task(start, n) for every group.
template <class Task>
INLINE void for_groups(int64_t n, Task task) {
    int64_t start = 0;
    for (; start + GROUP <= n; start += GROUP) task(start, GROUP);
    if (start < n) task(start, static_cast<int>(n - start));
}

// The same over the weights at v, which are asked for before their turn comes: left to itself, the CPU fetches so late
// that a pass takes two to three times as long.
template <class Int, class Task>
INLINE void for_groups(const Int* v, int64_t n, Task task) {
    constexpr uintptr_t AHEAD = 8192, LINE = 64;
    for_groups(n, [=](int64_t start, int count) INLINED {
        uintptr_t from = reinterpret_cast<uintptr_t>(v + start) + AHEAD;
        for (uintptr_t i = 0; i < GROUP * sizeof(Int); i += LINE) __builtin_prefetch(reinterpret_cast<void*>(from + i));
        task(start, count);
    });
}

// task(Int{}) with the integer of that many bytes.
template <class Task>
INLINE void by_size(int32_t itemsize, Task task) {
    switch (itemsize) {
        case 1: return task(int8_t{});
        case 2: return task(int16_t{});
        case 4: return task(int32_t{});
        default: return task(int64_t{});
    }
}

template <class Int>
INLINE Int key_of(Int bits) {
    return static_cast<Int>(bits & ~(uint64_t{1} << (8 * sizeof(Int) - 1)));
}

// A group of the mask as one word: bit i is weight i.
INLINE uint64_t read_word(const uint8_t* bits, int n) {
    uint64_t word = 0;
    for (int i = 0; 8 * i < n; i++) word |= uint64_t{bits[i]} << 8 * i;
    return word;
}

INLINE void write_word(uint8_t* bits, uint64_t word, int n) {
    for (int i = 0; 8 * i < n; i++) bits[i] = static_cast<uint8_t>(word >> 8 * i);
}

// The bits that are 0 among the first n.
INLINE uint64_t pruned_of(uint64_t word, int n) { return ~word & ~uint64_t{0} >> (GROUP - n); }

struct Flags {
    int8_t at[GROUP];
};

constexpr Flags bits_in_their_bytes() {
    Flags flags{};
    for (int i = 0; i < GROUP; i++) flags.at[i] = static_cast<int8_t>(1 << i % 8);
    return flags;
}
constexpr Flags BIT = bits_in_their_bytes();

// Bit i is set where test(key of weight i).
template <class Int, class Test>
INLINE uint64_t where(const Int* values, int n, Test test) {
    Flags flags{};
    for (int i = 0; i < n; i++) flags.at[i] = test(key_of(values[i])) ? BIT.at[i] : int8_t{0};
    uint64_t word = 0;
    for (int i = 0; i < GROUP / 8; i++) {
        uint64_t eight;
        memcpy(&eight, flags.at + 8 * i, sizeof(eight));
        word |= (eight * 0x0101010101010101u >> 56) << 8 * i;  // the product's top byte is the sum of all eight
    }
    return word;
}

// task(i, keep) for every vector of a whole group: i is its first weight, keep -1 in the lanes that the mask keeps.
template <class Int, class Task>
INLINE void for_vectors(uint64_t word, Task task) {
    for (int i = 0; i < GROUP; i += Vec<Int>::N) task(i, Vec<Int>::spread(word >> i));
}

// One value, given by its bits, where the mask prunes.
EXPORT void pc_fill_pruned(void* values, const uint8_t* bits, int64_t n, int32_t itemsize, int64_t value) {
    by_size(itemsize, [=](auto zero) {
        using Int = decltype(zero);
        using Vector = typename Vec<Int>::Type;
        auto* v = static_cast<Int*>(values);
        const Int filling = static_cast<Int>(value);
        for_groups(v, n, [=](int64_t start, int count) INLINED {
            uint64_t word = read_word(bits + start / 8, count);
            if (count < GROUP) {
                for (int i = 0; i < count; i++) v[start + i] = word >> i & 1 ? v[start + i] : filling;
                return;
            }
            for_vectors<Int>(word, [=](int i, Vector keep) INLINED {
                Int* at = v + start + i;
                store(at, (load<Vector>(at) & keep) | ((filling - Vector{}) & ~keep));
            });
        });
    });
}

// Whether a value that the mask prunes has any bit set: is anything but +0.0.
EXPORT int32_t pc_any_pruned(const void* values, const uint8_t* bits, int64_t n, int32_t itemsize) {
    bool found = false;
    by_size(itemsize, [=, &found](auto zero) {
        using Int = decltype(zero);
        using Vector = typename Vec<Int>::Type;
        auto* v = static_cast<const Int*>(values);
        Vector any{};
        for_groups(v, n, [=, &found, &any](int64_t start, int count) INLINED {
            uint64_t word = read_word(bits + start / 8, count);
            if (count < GROUP)
                for (int i = 0; i < count; i++) found |= !(word >> i & 1) && v[start + i];
            else
                for_vectors<Int>(word, [=, &any](int i, Vector keep) INLINED {
                    any |= load<Vector>(v + start + i) & ~keep;
                });
        });
        for (int i = 0; i < Vec<Int>::N; i++) found |= any[i] != 0;
    });
    return found;
}

// The values of a group where a bit is set, one after the other; there is room for 8 more behind them.
template <class Int>
INLINE Int* gather_group(const Int* v, uint64_t set, Int* to) {
    for (int i = 0; i < GROUP; i += 8) {
        int byte = set >> i & 0xff;
        if constexpr (CAN_SHUFFLE<Int>) {
            store(to, shuffled(load<typename Vec<Int, 8>::Type>(v + i), GATHERED.at[byte]));
            to += __builtin_popcount(byte);
        } else {
            for (int lane = 0; lane < 8; lane++) {
                *to = v[i + lane];
                to += byte >> lane & 1;
            }
        }
    }
    return to;
}

// The reverse. Behind the values 8 more may be read.
template <class Int>
INLINE const Int* scatter_group(Int* v, uint64_t set, const Int* from) {
    for (int i = 0; i < GROUP; i += 8) {
        int byte = set >> i & 0xff;
        if constexpr (CAN_SHUFFLE<Int>) {
            using Eight = Vec<Int, 8>;
            auto old = load<typename Eight::Type>(v + i), chosen = Eight::spread(byte);
            auto values = shuffled(load<typename Eight::Type>(from), SCATTERED.at[byte]);
            store(v + i, (values & chosen) | (old & ~chosen));
            from += __builtin_popcount(byte);
        } else {
            for (int lane = 0; lane < 8; lane++) {
                v[i + lane] = byte >> lane & 1 ? *from : v[i + lane];
                from += byte >> lane & 1;
            }
        }
    }
    return from;
}

// The values where the mask prunes, in order, n_pruned of them, are taken out: +0.0 is left in their places.
EXPORT void pc_take_pruned(void* values, const uint8_t* bits, int64_t n, int32_t itemsize, void* taken,
                           int64_t n_pruned) {
    by_size(itemsize, [=](auto zero) {
        using Int = decltype(zero);
        using Vector = typename Vec<Int>::Type;
        auto* v = static_cast<Int*>(values);
        auto *to = static_cast<Int*>(taken), *end = to + n_pruned;
        for_groups(v, n, [=, &to](int64_t start, int count) INLINED {
            uint64_t word = read_word(bits + start / 8, count), pruned = pruned_of(word, count);
            if (count == GROUP && end - to > GROUP) {
                to = gather_group(v + start, pruned, to);
                for_vectors<Int>(word, [=](int i, Vector keep) INLINED {
                    store(v + start + i, load<Vector>(v + start + i) & keep);
                });
            } else {
                for (; pruned && to < end; pruned &= pruned - 1) {
                    Int& value = v[start + __builtin_ctzll(pruned)];
                    *to++ = value;
                    value = 0;
                }
            }
        });
    });
}

// What pc_take_pruned took goes back.
EXPORT void pc_put_pruned(void* values, const uint8_t* bits, int64_t n, int32_t itemsize, const void* taken,
                          int64_t n_pruned) {
    by_size(itemsize, [=](auto zero) {
        auto* v = static_cast<decltype(zero)*>(values);
        auto *from = static_cast<const decltype(zero)*>(taken), *end = from + n_pruned;
        for_groups(v, n, [=, &from](int64_t start, int count) INLINED {
            uint64_t pruned = pruned_of(read_word(bits + start / 8, count), count);
            if (count == GROUP && end - from > GROUP)
                from = scatter_group(v + start, pruned, from);
            else
                for (; pruned && from < end; pruned &= pruned - 1) v[start + __builtin_ctzll(pruned)] = *from++;
        });
    });
}

// *n_set = how many of the first n bits are set.
EXPORT void pc_count_bits(const uint8_t* bits, int64_t n, int64_t* n_set) {
    int64_t count = 0;
    for_groups(n, [&](int64_t start, int n) { count += __builtin_popcountll(read_word(bits + start / 8, n)); });
    *n_set = count;
}

// How keys lie about [low, high]: counts gets those below low, equal to low, between, and equal to high where that is
// not low. Those between are written to `between`, which has room for n of them.
EXPORT void pc_census(const void* values, int64_t n, int32_t itemsize, int64_t low, int64_t high, void* between,
                      int64_t* counts) {
    by_size(itemsize, [=](auto zero) {
        using Int = decltype(zero);
        auto* v = static_cast<const Int*>(values);
        auto* to = static_cast<Int*>(between);
        const Int from = static_cast<Int>(low), until = static_cast<Int>(high);
        int64_t n_below = 0, n_low = 0, n_between = 0, n_high = 0;
        for_groups(v, n, [&](int64_t start, int count) INLINED {
            Int below = 0;
            for (int i = 0; i < count; i++) below += key_of(v[start + i]) < from;
            n_below += below;
            uint64_t inside = where(v + start, count, [=](Int key) { return key >= from && key <= until; });
            for (; inside; inside &= inside - 1) {
                Int key = key_of(v[start + __builtin_ctzll(inside)]);
                to[n_between] = key;
                n_between += key > from && key < until;
                n_low += key == from;
                n_high += key == until && key > from;
            }
        });
        counts[0] = n_below, counts[1] = n_low, counts[2] = n_between, counts[3] = n_high;
    });
}

// The mask that prunes the keys below `cut`, and of those equal to it the first *n_ties, which are counted down.
EXPORT void pc_prune_up_to(const void* values, int64_t n, int32_t itemsize, int64_t cut, int64_t* n_ties,
                           uint8_t* bits) {
    by_size(itemsize, [=](auto zero) {
        using Int = decltype(zero);
        auto* v = static_cast<const Int*>(values);
        const Int edge = static_cast<Int>(cut);
        for_groups(v, n, [=](int64_t start, int count) INLINED {
            uint64_t keep = where(v + start, count, [=](Int key) { return key >= edge; });
            if (*n_ties > 0) {
                uint64_t ties = where(v + start, count, [=](Int key) { return key == edge; });
                for (; ties && *n_ties > 0; ties &= ties - 1, --*n_ties) keep &= ~(ties & -ties);
            }
            write_word(bits + start / 8, keep, count);
        });
    });
}

// Keys of a uniform draw for the weights first, first + 1, ...: 0 where the mask prunes already, from [1, 2^29] where
// the value is 0, from (2^29, 2^30] elsewhere. keys.py says how they are drawn; `values` and `bits` start at `first`.
EXPORT void pc_random_keys(const void* values, const uint8_t* bits, int64_t n, int32_t itemsize, int64_t first,
                           int64_t seed, int32_t* keys) {
    const uint32_t a = static_cast<uint32_t>(seed), b = static_cast<uint32_t>(static_cast<uint64_t>(seed) >> 32);
    by_size(itemsize, [=](auto zero) {
        using Int = decltype(zero);
        auto* v = static_cast<const Int*>(values);
        for_groups(v, n, [=](int64_t start, int count) INLINED {
            int32_t drawn[GROUP] = {};
            for (int i = 0; i < count; i++) {
                uint32_t x = static_cast<uint32_t>(first + start + i) ^ a;
                x = (x ^ x >> 16) * 0x7feb352du + b;
                x = (x ^ x >> 16) * 0x7feb352du;
                x = (x ^ x >> 15) * 0x846ca68bu;
                drawn[i] = static_cast<int32_t>((x ^ x >> 16) >> 3) + 1 + (key_of(v[start + i]) != 0 ? 1 << 29 : 0);
            }
            for_vectors<int32_t>(read_word(bits + start / 8, count), [&](int i, Vec<int32_t>::Type keep) INLINED {
                store(drawn + i, load<Vec<int32_t>::Type>(drawn + i) & keep);
            });
            memcpy(keys + start, drawn, count * sizeof(int32_t));
        });
    });
}

// ---- 12  words of archives -----------------------------------------------------------------------------------------

uint8_t unsigned_of(int8_t);
uint16_t unsigned_of(int16_t);
uint32_t unsigned_of(int32_t);
uint64_t unsigned_of(int64_t);

// Byte j of word i is planes[j][i]; where asked, the lowest bit of the word then becomes the highest.
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

// to[positions[i]] = words[i].
EXPORT void pc_scatter(void* to, const int64_t* positions, const void* words, int64_t n, int32_t itemsize) {
    by_size(itemsize, [=](auto zero) {
        auto* target = static_cast<decltype(zero)*>(to);
        auto* word = static_cast<const decltype(zero)*>(words);
        for (int64_t i = 0; i < n; i++) target[positions[i]] = word[i];
    });
}
