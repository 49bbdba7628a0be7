// The hot loops of prunecell, in portable C++17: compiler vector extensions, no Python, no OpenMP, no exceptions.
// The same file is compiled for several instruction-set levels; kernels.py loads the best that the CPU runs and calls
// it through ctypes. Every function is reentrant and keeps no state: threads belong to the caller.
//
//   1  the level of the CPU, the version of the source
//   2  vectors
//   3  memory of one call
//   4  a compressed matrix, and what makes it safe to read
//   5  decoding: any format into offsets and floats
//   6  decoded rows times many positions
//   7  rows times one vector
//   8  linear layers
//   9  convolutions
//   10 masks
//
// Exported functions start with `pc_`. Those that need memory of their own return 0, or -1 if there was none.
//
// Section 2 holds the only two intrinsics, gather and expand of AVX-512: no compiler makes these instructions from
// portable code, and with them the product with one vector takes 0.6 of the time. Lower levels run section 7's loops.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#include <immintrin.h>
#define WIDE 1
#endif
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

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
constexpr int LANES = 16, MAX_VECTORS = 4;
#elif defined(__AVX__)
constexpr int LANES = 8, MAX_VECTORS = 8;
#else
constexpr int LANES = 4, MAX_VECTORS = 8;
#endif

// As many output positions as are kept in registers at once, in MAX_VECTORS vectors.
constexpr int BLOCK = LANES * MAX_VECTORS;

#define VECTOR(type, n) __attribute__((vector_size((n) * sizeof(type))))
typedef float Floats VECTOR(float, LANES);
typedef float Floats4 VECTOR(float, 4);
typedef int32_t Ints VECTOR(int32_t, LANES);
typedef uint32_t Words VECTOR(uint32_t, LANES);
typedef uint16_t Shorts VECTOR(uint16_t, LANES);
typedef uint8_t Bytes VECTOR(uint8_t, LANES);
typedef int8_t Chars VECTOR(int8_t, LANES);

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

INLINE Floats all(float value) { return value - Floats{}; }

// An IEEE half precision number.
struct Half {
    uint16_t bits;
};

// LANES values, as floats.
INLINE Floats floats(const float* v) { return load<Floats>(v); }
INLINE Floats floats(const int8_t* v) { return __builtin_convertvector(load<Chars>(v), Floats); }
INLINE Floats floats(const Half* v) {
    Words half = __builtin_convertvector(load<Shorts>(v), Words);
    Words magnitude = (half & 0x7fff) << 13, sign = (half & 0x8000) << 16;
    Words special = same_bits<Words>(magnitude >= 0x0f800000u) & 0x7f800000u;  // infinity and NaN
    Floats scaled = same_bits<Floats>(magnitude) * 0x1p112f;                   // another bias; subnormals come right
    return same_bits<Floats>(same_bits<Words>(scaled) | special | sign);
}

#if WIDE
// x[at[0]], x[at[1]], ...
INLINE Floats gather(const float* x, Ints at) {
    __m512i offsets = same_bits<__m512i>(at);
    return same_bits<Floats>(_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, offsets, x, sizeof(float)));
}

// The next of `values` where a bit is set, 0 elsewhere.
INLINE Floats expand(uint16_t bits, Floats values) {
    return same_bits<Floats>(_mm512_maskz_expand_ps(bits, same_bits<__m512>(values)));
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
#endif

// to[j][i] = from[i][j] for i < 4, j < 4.
INLINE void transpose_4x4(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
    Floats4 a = load<Floats4>(from), b = load<Floats4>(from + from_stride);
    Floats4 c = load<Floats4>(from + 2 * from_stride), d = load<Floats4>(from + 3 * from_stride);
    Floats4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), AB = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    Floats4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    store(to, __builtin_shufflevector(ab, cd, 0, 1, 4, 5));
    store(to + to_stride, __builtin_shufflevector(ab, cd, 2, 3, 6, 7));
    store(to + 2 * to_stride, __builtin_shufflevector(AB, CD, 0, 1, 4, 5));
    store(to + 3 * to_stride, __builtin_shufflevector(AB, CD, 2, 3, 6, 7));
#else
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) to[j * to_stride + i] = from[i * from_stride + j];
#endif
}

// to[j][i] = from[i][j] for i < n_rows, j < n_columns.
static void transpose(const float* from, int64_t from_stride, int64_t n_rows, int64_t n_columns, float* to,
                      int64_t to_stride) {
    int64_t i = 0;
    for (; i + 4 <= n_rows; i += 4) {
        int64_t j = 0;
        for (; j + 4 <= n_columns; j += 4)
            transpose_4x4(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
        for (; j < n_columns; j++)
            for (int64_t ii = i; ii < i + 4; ii++) to[j * to_stride + ii] = from[ii * from_stride + j];
    }
    for (; i < n_rows; i++)
        for (int64_t j = 0; j < n_columns; j++) to[j * to_stride + i] = from[i * from_stride + j];
}

// ---- 3  memory of one call -----------------------------------------------------------------------------------------

constexpr int64_t CACHE_LINE = 64;

INLINE int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

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

// How a group of rows is decoded: so many entries (512 KiB of offsets and values stay in the second-level cache), and
// so many rows (their outputs do too).
constexpr int64_t GROUP_ENTRIES = 1 << 16, GROUP_ROWS = 512;

static int64_t longest_row(const Matrix& m) {
    int32_t longest = 0;
    for (int32_t r = 0; r < m.n_rows; r++) longest = larger(longest, m.starts[r + 1] - m.starts[r]);
    return longest;
}

// The row after the last that fits into a group which starts at row `r`; at least one row does.
static int32_t group_end(const Matrix& m, int32_t r, int32_t end, int64_t n_rows) {
    int32_t stop = smaller(end, r + n_rows), last = r + 1;
    while (last < stop && m.starts[last + 1] - m.starts[r] <= GROUP_ENTRIES) last++;
    return last;
}

static void decode_columns(const Matrix& m, int64_t begin, int64_t end, int32_t* to) {
    const uint16_t* column = static_cast<const uint16_t*>(m.indices);
    for (int64_t k = begin; k < end; k++) to[k - begin] = column[k];
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

// Rows [first, end) with every column turned into an offset of the input: column * stride, or table[column].
struct Decoded {
    const Matrix& matrix;
    Scratch<int32_t> offsets;
    Scratch<float> converted;
    const float* values = nullptr;
    int32_t first = 0, end = 0;

    explicit Decoded(const Matrix& m)
        : matrix(m),
          offsets(larger(smaller(GROUP_ENTRIES, m.n_entries), longest_row(m))),
          converted(m.value_type == FLOAT32 ? 0 : larger(smaller(GROUP_ENTRIES, m.n_entries), longest_row(m))) {}

    bool has_memory() const { return offsets.at && converted.at; }

    int64_t entry(int32_t row) const { return matrix.starts[row] - matrix.starts[first]; }

    void read(int32_t r0, int32_t r1, int32_t stride, const int32_t* table) {
        first = r0, end = r1;
        int64_t begin = matrix.starts[r0], n = matrix.starts[r1] - begin;
        read_values(begin, n);
        if (matrix.format == COLUMNS16) decode_columns(matrix, begin, begin + n, offsets.at);
        if (matrix.format == GAPS8) decode_gaps(matrix, r0, r1, offsets.at);
        if (matrix.format == BITMASK) decode_mask(matrix, r0, r1, offsets.at);
        int32_t* offset = offsets.at;
        if (table)
            for (int64_t k = 0; k < n; k++) offset[k] = table[offset[k]];
        else
            for (int64_t k = 0; k < n; k++) offset[k] *= stride;
    }

    void read_values(int64_t begin, int64_t n) {
        values = converted.at;
        if (matrix.value_type == FLOAT32) values = static_cast<const float*>(matrix.values) + begin;
        if (matrix.value_type == FLOAT16)
            decode_values(static_cast<const Half*>(matrix.values) + begin, n, converted.at);
        if (matrix.value_type == INT8)
            decode_values(static_cast<const int8_t*>(matrix.values) + begin, n, converted.at);
    }
};

// ---- 6  decoded rows times many positions --------------------------------------------------------------------------

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

// y[0 .. VECTORS * LANES) = the row's sum of value * x[offset + 0 ..). There are several chains of sums, because an
// addition waits for the one before it longer than a processor needs to start the next.
template <int VECTORS>
INLINE void row_product(const float* x, const int32_t* offset, const float* value, int64_t n, float scale, float bias,
                        bool relu, float* y) {
    constexpr int CHAINS = VECTORS == 1 ? 4 : VECTORS < 8 ? 8 / VECTORS : 1;
    Floats sums[CHAINS][VECTORS] = {};
    int64_t k = 0;
    for (; k + CHAINS <= n; k += CHAINS)
        for (int c = 0; c < CHAINS; c++)
            for (int i = 0; i < VECTORS; i++)
                sums[c][i] += value[k + c] * load<Floats>(x + offset[k + c] + i * LANES);
    for (; k < n; k++)
        for (int i = 0; i < VECTORS; i++) sums[0][i] += value[k] * load<Floats>(x + offset[k] + i * LANES);
    for (int c = 1; c < CHAINS; c++)
        for (int i = 0; i < VECTORS; i++) sums[0][i] += sums[c][i];
    for (int i = 0; i < VECTORS; i++) store(y + i * LANES, finish(sums[0][i], scale, bias, relu));
}

template <int VECTORS>
static void rows_product(const Decoded& rows, const float* x, const Epilogue& then, float* y, int64_t y_stride) {
    for (int32_t r = rows.first; r < rows.end; r++) {
        int64_t k = rows.entry(r);
        row_product<VECTORS>(x, rows.offsets.at + k, rows.values + k, rows.entry(r + 1) - k, then.scale(r),
                             then.bias(r), then.relu, y + (r - rows.first) * y_stride);
    }
}

// One block of positions: `n_vectors` vectors of them, 1 to MAX_VECTORS.
static void block_product(int n_vectors, const Decoded& rows, const float* x, const Epilogue& then, float* y,
                          int64_t y_stride) {
    switch (n_vectors) {
        case 1: return rows_product<1>(rows, x, then, y, y_stride);
        case 2: return rows_product<2>(rows, x, then, y, y_stride);
        case 3: return rows_product<3>(rows, x, then, y, y_stride);
        case 4: return rows_product<4>(rows, x, then, y, y_stride);
#if !defined(__AVX512F__)
        case 5: return rows_product<5>(rows, x, then, y, y_stride);
        case 6: return rows_product<6>(rows, x, then, y, y_stride);
        case 7: return rows_product<7>(rows, x, then, y, y_stride);
        case 8: return rows_product<8>(rows, x, then, y, y_stride);
#endif
    }
}

// Some whole vectors of positions that are computed at once.
struct Block {
    int64_t start;
    int n_vectors;
    int64_t end() const { return start + n_vectors * LANES; }
};

// The block at position s of n, the last of which may reach beyond n.
INLINE Block exceeding_block(int64_t s, int64_t n) {
    return {s, (int)(smaller(n - s, BLOCK) + LANES - 1) / LANES};
}

// The block at position s of n >= LANES, the last of which starts earlier instead and computes some outputs once more.
INLINE Block inner_block(int64_t s, int64_t n) {
    int n_vectors = smaller(exceeding_block(s, n).n_vectors, n / LANES);
    return {smaller(s, n - n_vectors * LANES), n_vectors};
}

// ---- 7  rows times one vector --------------------------------------------------------------------------------------

#if WIDE

// Copies of the last few elements of an array, from which a whole vector can be loaded.
template <class T>
struct Last {
    T at[LANES] = {};
    Last(const T* from, int64_t n) {
        if (n) memcpy(at, from, n * sizeof(T));
    }
};

// The columns of the next LANES entries; `before` is the column of the entry before them, in every lane.
INLINE Ints next_columns(const uint16_t* column, Ints&) {
    return __builtin_convertvector(load<Shorts>(column), Ints);
}
INLINE Ints next_columns(const uint8_t* gap, Ints& before) {
    Ints columns = before + running_sum(__builtin_convertvector(load<Bytes>(gap), Ints) + 1);
    before = last_everywhere(columns);
    return columns;
}

template <class Index, class Value>
INLINE Floats last_products(const Index* index, const Value* value, int64_t n, Ints before, const float* x) {
    Ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    Ints inside = lane < ((int32_t)n - Ints{});
    Floats products = floats(value) * gather(x, next_columns(index, before) & inside);
    return same_bits<Floats>(same_bits<Ints>(products) & inside);
}

// The sum of value * x[column] over a row of n entries; `readable` of them may be read, those after the row included.
template <class Index, class Value>
INLINE float dot(const Index* index, const Value* value, int64_t n, int64_t readable, const float* x) {
    Floats even{}, odd{};
    Ints before = -1 - Ints{};
    int64_t k = 0;
    for (; k + 2 * LANES <= n; k += 2 * LANES) {
        even += floats(value + k) * gather(x, next_columns(index + k, before));
        odd += floats(value + k + LANES) * gather(x, next_columns(index + k + LANES, before));
    }
    for (; k + LANES <= n; k += LANES) even += floats(value + k) * gather(x, next_columns(index + k, before));
    if (k < n && k + LANES <= readable)
        odd += last_products(index + k, value + k, n - k, before, x);
    else if (k < n)
        odd += last_products(Last<Index>(index + k, n - k).at, Last<Value>(value + k, n - k).at, n - k, before, x);
    return sum(even + odd);
}

// The same for a bit mask: `tail` holds the inputs after the last whole vector of them, zeros behind.
template <class Value>
INLINE float masked_dot(const uint8_t* mask, const Value* value, int64_t readable, int64_t n_columns, const float* x,
                        const float* tail) {
    Floats total{};
    for (int64_t c = 0; c < n_columns; c += LANES) {
        uint16_t bits = mask[c / 8] | (c + 8 < n_columns ? mask[c / 8 + 1] << 8 : 0);
        int n = __builtin_popcount(bits);
        Floats values = readable >= LANES ? floats(value) : floats(Last<Value>(value, n).at);
        total += expand(bits, values) * load<Floats>(c + LANES <= n_columns ? x + c : tail);
        value += n, readable -= n;
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

static int one_vector(const Matrix& m, int32_t r0, int32_t r1, const float* x, const Epilogue& then, float* y,
                      int64_t y_stride) {
    if (m.value_type == FLOAT32) vector_product<float>(m, r0, r1, x, then, y, y_stride);
    if (m.value_type == FLOAT16) vector_product<Half>(m, r0, r1, x, then, y, y_stride);
    if (m.value_type == INT8) vector_product<int8_t>(m, r0, r1, x, then, y, y_stride);
    return 0;
}

#else

// Four columns come in one load, because loads are what these loops wait for.
INLINE float dot(const uint16_t* column, const float* value, int64_t n, const float* x) {
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int64_t k = 0;
    for (; k + 4 <= n; k += 4) {
        uint64_t four;
        memcpy(&four, column + k, sizeof(four));
        s0 += value[k] * x[four & 0xffff], s1 += value[k + 1] * x[four >> 16 & 0xffff];
        s2 += value[k + 2] * x[four >> 32 & 0xffff], s3 += value[k + 3] * x[four >> 48];
    }
    for (; k < n; k++) s0 += value[k] * x[column[k]];
    return (s0 + s1) + (s2 + s3);
}

INLINE float dot(const int32_t* column, const float* value, int64_t n, const float* x) {
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int64_t k = 0;
    for (; k + 4 <= n; k += 4) {
        s0 += value[k] * x[column[k]], s1 += value[k + 1] * x[column[k + 1]];
        s2 += value[k + 2] * x[column[k + 2]], s3 += value[k + 3] * x[column[k + 3]];
    }
    for (; k < n; k++) s0 += value[k] * x[column[k]];
    return (s0 + s1) + (s2 + s3);
}

static int one_vector(const Matrix& m, int32_t r0, int32_t r1, const float* x, const Epilogue& then, float* y,
                      int64_t y_stride) {
    bool as_it_is = m.format == COLUMNS16 && m.value_type == FLOAT32;
    Decoded row(m);
    if (!row.has_memory()) return -1;
    for (int32_t r = r0; r < r1; r++) {
        int64_t k = m.starts[r], n = m.starts[r + 1] - k;
        if (!as_it_is) row.read(r, r + 1, 1, nullptr);
        float total = as_it_is ? dot(static_cast<const uint16_t*>(m.indices) + k,
                                     static_cast<const float*>(m.values) + k, n, x)
                               : dot(row.offsets.at, row.values, n, x);
        y[r * y_stride] = finish(all(total), then.scale(r), then.bias(r), then.relu)[0];
    }
    return 0;
}

#endif

// ---- 8  linear layers ----------------------------------------------------------------------------------------------

// An input or output of a linear layer: element (feature f, sample s) is at[f * feature_stride + s * sample_stride],
// one of the strides being 1. Feature-major is what the product reads and writes; the other is transposed.
struct Activations {
    float* at;
    int64_t feature_stride, sample_stride;
    bool feature_major() const { return sample_stride == 1; }
};

// x in blocks of positions: packed[block][feature][lane], so that a block's features lie close together.
static void pack(const Activations& x, int64_t n_features, int64_t n_samples, int64_t width, float* packed) {
    for (int64_t s = 0; s < n_samples; s += width, packed += n_features * width) {
        int64_t n = smaller(width, n_samples - s);
        if (n < width) memset(packed, 0, n_features * width * sizeof(float));
        if (x.feature_major())
            for (int64_t f = 0; f < n_features; f++)
                memcpy(packed + f * width, x.at + f * x.feature_stride + s, n * sizeof(float));
        else
            transpose(x.at + s * x.sample_stride, x.sample_stride, n, n_features, packed, width);
    }
}

// n_rows x n_samples outputs, from tile[row][lane] to where they belong.
static void unpack(const float* tile, int64_t n_rows, int64_t n_samples, const Activations& y) {
    if (y.feature_major())
        for (int64_t r = 0; r < n_rows; r++)
            memcpy(y.at + r * y.feature_stride, tile + r * BLOCK, n_samples * sizeof(float));
    else
        transpose(tile, BLOCK, n_rows, n_samples, y.at, y.sample_stride);
}

static int many_samples(const Matrix& m, int32_t r0, int32_t r1, const Activations& x, int64_t n_samples,
                        const Epilogue& then, const Activations& y) {
    bool in_place = x.feature_major() && n_samples >= LANES && m.n_columns * x.feature_stride <= INT32_MAX;
    int64_t width = LANES * exceeding_block(0, n_samples).n_vectors, n_blocks = (n_samples + width - 1) / width;
    Scratch<float> packed(in_place ? 0 : n_blocks * m.n_columns * width), tile(GROUP_ROWS * BLOCK);
    Decoded rows(m);
    if (!packed.at || !tile.at || !rows.has_memory()) return -1;
    if (!in_place) pack(x, m.n_columns, n_samples, width, packed.at);

    for (int32_t first = r0; first < r1; first = rows.end) {
        rows.read(first, group_end(m, first, r1, GROUP_ROWS), in_place ? x.feature_stride : width, nullptr);
        for (int64_t s = 0; s < n_samples;) {
            Block block = in_place ? inner_block(s, n_samples) : exceeding_block(s, n_samples);
            const float* from = in_place ? x.at + block.start : packed.at + block.start * m.n_columns;
            float* to = y.at + first * y.feature_stride + block.start * y.sample_stride;
            if (y.feature_major() && block.end() <= n_samples) {
                block_product(block.n_vectors, rows, from, then, to, y.feature_stride);
            } else {
                block_product(block.n_vectors, rows, from, then, tile.at, BLOCK);
                unpack(tile.at, rows.end - first, smaller(block.end(), n_samples) - block.start,
                       {to, y.feature_stride, y.sample_stride});
            }
            s = block.end();
        }
    }
    return 0;
}

// y = x W^T + bias, then max(0, .) where asked, for the rows [r0, r1) of W. Strides are in floats. With one sample the
// input must be contiguous.
EXPORT int32_t pc_linear(const Matrix* m, const float* bias, int32_t relu, float* x, int64_t x_feature_stride,
                         int64_t x_sample_stride, int64_t n_samples, float* y, int64_t y_feature_stride,
                         int64_t y_sample_stride, int32_t r0, int32_t r1) {
    Epilogue then{m->scales, bias, relu != 0};
    if (n_samples == 1) return one_vector(*m, r0, r1, x, then, y, y_feature_stride);
    return many_samples(*m, r0, r1, {x, x_feature_stride, x_sample_stride}, n_samples, then,
                        {y, y_feature_stride, y_sample_stride});
}

// ---- 9  convolutions -----------------------------------------------------------------------------------------------

enum Axis { DEPTH, HEIGHT, WIDTH, AXES };

// A convolution of one to three axes; those that are missing come first, with size 1. The matrix has a row per output
// channel and a column per (input channel of the group, kernel position). kernels.py has the same fields.
struct Geometry {
    int32_t groups, in_channels, out_channels;
    int32_t size[AXES], out[AXES], kernel[AXES], stride[AXES], padding[AXES], dilation[AXES];
};

// One axis of the padded input. The padding between two rows is shared: it ends one and begins the next. With a stride
// s, the positions u with the same u % s (a phase) lie together, so that neighbouring outputs read neighbours.
struct PaddedAxis {
    int64_t kernel, out, stride, padding, dilation;
    int64_t used;   // elements of the input that any output reads
    int64_t pitch;  // positions of one phase

    PaddedAxis(const Geometry& g, int axis)
        : kernel(g.kernel[axis]),
          out(g.out[axis]),
          stride(g.stride[axis]),
          padding(g.padding[axis]),
          dilation(g.dilation[axis]) {
        int64_t end = (out - 1) * stride + (kernel - 1) * dilation + 1;  // of the positions that are read
        used = larger(0, smaller(g.size[axis], end - padding));
        pitch = (larger(padding + used, end - padding) + stride - 1) / stride;
    }

    bool reads(int64_t phase) const {
        for (int64_t k = 0; k < kernel; k++)
            if (k * dilation % stride == phase) return true;
        return false;
    }

    bool is_trivial() const { return kernel == 1 && stride == 1 && padding == 0; }
};

// Where things lie in the padded input: planes[channel][phase][sample, depth, height, width].
struct PaddedInput {
    PaddedAxis depth, height, width;
    int64_t n_samples;           // that are computed at once
    int64_t sample_pitch;        // positions from one sample to the next
    int64_t n_positions;         // outputs of a channel, those between two rows included, which are thrown away
    int64_t n_phases, plane;     // planes of a channel, and their size
    bool is_the_input;           // as it lies in memory: nothing is to be copied

    PaddedInput(const Geometry& g, int64_t samples_at_most)
        : depth(g, DEPTH), height(g, HEIGHT), width(g, WIDTH) {
        sample_pitch = depth.pitch * height.pitch * width.pitch;
        n_samples = larger(1, smaller(samples_at_most, ENOUGH_POSITIONS / sample_pitch));
        n_positions = (n_samples - 1) * sample_pitch + place(depth.out - 1, height.out - 1, width.out - 1) + 1;
        n_phases = depth.stride * height.stride * width.stride;
        int64_t farthest = place((depth.kernel - 1) * depth.dilation / depth.stride,
                                 (height.kernel - 1) * height.dilation / height.stride,
                                 (width.kernel - 1) * width.dilation / width.stride);
        is_the_input = depth.is_trivial() && height.is_trivial() && width.is_trivial() && n_samples == 1 &&
                       n_positions >= LANES;
        plane = is_the_input ? n_positions : larger(farthest + round_up(n_positions, LANES), n_samples * sample_pitch);
    }

    int64_t place(int64_t d, int64_t h, int64_t w) const { return (d * height.pitch + h) * width.pitch + w; }

    // Of the padded position (d, h, w) of a channel's first sample.
    int64_t offset(int64_t channel, int64_t d, int64_t h, int64_t w) const {
        int64_t phase = (d % depth.stride * height.stride + h % height.stride) * width.stride + w % width.stride;
        return (channel * n_phases + phase) * plane + place(d / depth.stride, h / height.stride, w / width.stride);
    }

    bool is_the_output() const {
        return depth.pitch == depth.out && height.pitch == height.out && width.pitch == width.out && n_samples == 1 &&
               n_positions >= LANES;
    }

    // Enough samples at once to fill the vectors, where the planes of one are small.
    static constexpr int64_t ENOUGH_POSITIONS = 4 * BLOCK;
};

INLINE void copy_floats(const float* from, int64_t n, float* to) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) store(to + i, load<Floats>(from + i));
    for (; i < n; i++) to[i] = from[i];
}

static void copy_row(const PaddedInput& p, const float* row, int64_t channel, int64_t sample, int64_t d, int64_t h,
                     float* padded) {
    const PaddedAxis& axis = p.width;
    for (int64_t phase = 0; phase < axis.stride; phase++) {
        if (!axis.reads(phase)) continue;
        int64_t w = ((phase - axis.padding) % axis.stride + axis.stride) % axis.stride;  // the first of the phase
        if (w >= axis.used) continue;
        float* to = padded + sample * p.sample_pitch + p.offset(channel, d, h, axis.padding + w);
        if (axis.stride == 1)
            copy_floats(row, axis.used, to);
        else
            for (; w < axis.used; w += axis.stride) *to++ = row[w];
    }
}

static void pad(const PaddedInput& p, const Geometry& g, const float* x, float* padded) {
    memset(padded, 0, g.in_channels * p.n_phases * p.plane * sizeof(float));
    int64_t row_size = g.size[WIDTH], plane_size = g.size[HEIGHT] * row_size, volume = g.size[DEPTH] * plane_size;
    for (int64_t s = 0; s < p.n_samples; s++)
        for (int64_t c = 0; c < g.in_channels; c++)
            for (int64_t d = 0; d < p.depth.used; d++) {
                if (!p.depth.reads((d + p.depth.padding) % p.depth.stride)) continue;
                for (int64_t h = 0; h < p.height.used; h++) {
                    if (!p.height.reads((h + p.height.padding) % p.height.stride)) continue;
                    const float* row = x + (s * g.in_channels + c) * volume + d * plane_size + h * row_size;
                    copy_row(p, row, c, s, d + p.depth.padding, h + p.height.padding, padded);
                }
            }
}

// The rows of the tile without what lies between them. y is at the first row of the group, the first sample.
static void take_outputs(const PaddedInput& p, const Geometry& g, const float* tile, int64_t stride, int64_t n_rows,
                         float* y) {
    int64_t row_size = g.out[WIDTH], plane_size = g.out[HEIGHT] * row_size, volume = g.out[DEPTH] * plane_size;
    for (int64_t s = 0; s < p.n_samples; s++)
        for (int64_t r = 0; r < n_rows; r++)
            for (int64_t d = 0; d < g.out[DEPTH]; d++)
                for (int64_t h = 0; h < g.out[HEIGHT]; h++)
                    copy_floats(tile + r * stride + s * p.sample_pitch + p.place(d, h, 0), row_size,
                                y + (s * g.out_channels + r) * volume + d * plane_size + h * row_size);
}

static void fill_table(const PaddedInput& p, const Geometry& g, int32_t* table) {
    for (int64_t c = 0; c < g.in_channels / g.groups; c++)
        for (int64_t d = 0; d < g.kernel[DEPTH]; d++)
            for (int64_t h = 0; h < g.kernel[HEIGHT]; h++)
                for (int64_t w = 0; w < g.kernel[WIDTH]; w++)
                    *table++ = p.offset(c, d * p.depth.dilation, h * p.height.dilation, w * p.width.dilation);
}

// How many outputs of a group of rows are kept before they are taken to where they belong: 256 KiB.
constexpr int64_t TILE = 1 << 16;

// The working memory of some samples of one convolution.
struct Convolution {
    const Geometry& g;
    PaddedInput p;
    bool writes_output;
    int64_t tile_stride, tile_rows;
    Scratch<float> padded, tile;
    Scratch<int32_t> table;
    Decoded rows;

    Convolution(const Matrix& m, const Geometry& geometry, int64_t samples_at_most)
        : g(geometry),
          p(g, samples_at_most),
          writes_output(p.is_the_output()),
          tile_stride(round_up(p.n_positions, LANES)),
          tile_rows(larger(1, smaller(GROUP_ROWS, TILE / tile_stride))),
          padded(p.is_the_input ? 0 : g.in_channels * p.n_phases * p.plane),
          tile(writes_output ? 0 : tile_rows * tile_stride),
          table(m.n_columns),
          rows(m) {}

    bool has_memory() const { return padded.at && tile.at && table.at && rows.has_memory(); }

    // The next rows of one group of channels, which end before `end`. y is at the first sample.
    void compute(const float* from, int32_t first, int32_t end, const Epilogue& then, float* y) {
        rows.read(first, group_end(rows.matrix, first, end, tile_rows), 0, table.at);
        int64_t volume = g.out[DEPTH] * g.out[HEIGHT] * g.out[WIDTH];
        float* to = writes_output ? y + first * volume : tile.at;
        int64_t to_stride = writes_output ? volume : tile_stride;
        for (int64_t s = 0; s < p.n_positions;) {
            Block block = p.n_positions < LANES ? Block{0, 1} : inner_block(s, p.n_positions);
            block_product(block.n_vectors, rows, from + block.start, then, to + block.start, to_stride);
            s = block.end();
        }
        if (!writes_output) take_outputs(p, g, tile.at, tile_stride, rows.end - first, y + first * volume);
    }
};

static int some_samples(const Matrix& m, const Epilogue& then, const Geometry& g, const float* x, float* y, int64_t s,
                        int64_t end, int32_t r0, int32_t r1) {
    int64_t x_sample = (int64_t)g.in_channels * g.size[DEPTH] * g.size[HEIGHT] * g.size[WIDTH];
    int64_t y_sample = (int64_t)g.out_channels * g.out[DEPTH] * g.out[HEIGHT] * g.out[WIDTH];
    int32_t group_rows = g.out_channels / g.groups, group_channels = g.in_channels / g.groups;
    Convolution c(m, g, end - s);
    if (!c.has_memory()) return -1;
    fill_table(c.p, g, c.table.at);
    for (; s + c.p.n_samples <= end; s += c.p.n_samples) {
        const float* from = c.p.is_the_input ? x + s * x_sample : c.padded.at;
        if (!c.p.is_the_input) pad(c.p, g, x + s * x_sample, c.padded.at);
        for (int32_t first = r0; first < r1; first = c.rows.end) {
            int32_t group = first / group_rows;
            const float* channels = from + group * group_channels * c.p.n_phases * c.p.plane;
            c.compute(channels, first, smaller(r1, (group + 1) * group_rows), then, y + s * y_sample);
        }
    }
    return s < end ? some_samples(m, then, g, x, y, s, end, r0, r1) : 0;  // those that did not fill the vectors
}

// y = convolution of x (samples, channels, depth, height, width; contiguous) + bias, then max(0, .) where asked, for
// the samples [s0, s1) and the output channels [r0, r1).
EXPORT int32_t pc_convolution(const Matrix* m, const float* bias, int32_t relu, const Geometry* g, const float* x,
                              float* y, int64_t s0, int64_t s1, int32_t r0, int32_t r1) {
    return some_samples(*m, {m->scales, bias, relu != 0}, *g, x, y, s0, s1, r0, r1);
}

// ---- 10  masks -----------------------------------------------------------------------------------------------------
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

struct Table {
    int8_t at[256][8];
};

// Byte -> -1 or 0 for each of its bits.
constexpr Table spread_bytes() {
    Table table{};
    for (int byte = 0; byte < 256; byte++)
        for (int i = 0; i < 8; i++) table.at[byte][i] = byte >> i & 1 ? -1 : 0;
    return table;
}
constexpr Table SPREAD = spread_bytes();

// to[i] = -1 where bit i is set, 0 elsewhere.
INLINE void spread(uint64_t word, int8_t* to) {
    for (int i = 0; i < GROUP / 8; i++) memcpy(to + 8 * i, SPREAD.at[word >> 8 * i & 0xff], 8);
}

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

// One value, given by its bits, where the mask prunes.
EXPORT void pc_fill_pruned(void* values, const uint8_t* bits, int64_t n, int32_t itemsize, int64_t value) {
    by_size(itemsize, [=](auto zero) {
        using Int = decltype(zero);
        auto* v = static_cast<Int*>(values);
        const Int filling = static_cast<Int>(value);
        for_groups(n, [=](int64_t start, int count) INLINED {
            int8_t keep[GROUP];
            spread(read_word(bits + start / 8, count), keep);
            for (int i = 0; i < count; i++) v[start + i] = (v[start + i] & keep[i]) | (filling & ~keep[i]);
        });
    });
}

// The values where the mask prunes, in order; there are exactly n_pruned of them.
EXPORT void pc_take_pruned(const void* values, const uint8_t* bits, int64_t n, int32_t itemsize, void* taken,
                           int64_t n_pruned) {
    by_size(itemsize, [=](auto zero) {
        auto* v = static_cast<const decltype(zero)*>(values);
        auto *to = static_cast<decltype(zero)*>(taken), *end = to + n_pruned;
        for_groups(n, [=, &to](int64_t start, int count) INLINED {
            uint64_t pruned = pruned_of(read_word(bits + start / 8, count), count);
            if (end - to > GROUP) {  // room enough to write a kept value too, which the next one overwrites
                for (int i = 0; i < count; i++) {
                    *to = v[start + i];
                    to += pruned >> i & 1;
                }
            } else {
                for (; pruned; pruned &= pruned - 1) *to++ = v[start + __builtin_ctzll(pruned)];
            }
        });
    });
}

// What pc_take_pruned took goes back.
EXPORT void pc_put_pruned(void* values, const uint8_t* bits, int64_t n, int32_t itemsize, const void* taken) {
    by_size(itemsize, [=](auto zero) {
        auto* v = static_cast<decltype(zero)*>(values);
        auto* from = static_cast<const decltype(zero)*>(taken);
        for_groups(n, [=, &from](int64_t start, int count) INLINED {
            uint64_t pruned = pruned_of(read_word(bits + start / 8, count), count);
            for (; pruned; pruned &= pruned - 1) v[start + __builtin_ctzll(pruned)] = *from++;
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
        for_groups(n, [&](int64_t start, int count) INLINED {
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
        for_groups(n, [=](int64_t start, int count) INLINED {
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
        for_groups(n, [=](int64_t start, int count) INLINED {
            int8_t keep[GROUP];
            spread(read_word(bits + start / 8, count), keep);
            for (int i = 0; i < count; i++) {
                uint32_t x = static_cast<uint32_t>(first + start + i) ^ a;
                x = (x ^ x >> 16) * 0x7feb352du + b;
                x = (x ^ x >> 16) * 0x7feb352du;
                x = (x ^ x >> 15) * 0x846ca68bu;
                int32_t key = static_cast<int32_t>((x ^ x >> 16) >> 3) + 1;
                keys[start + i] = (key + (key_of(v[start + i]) != 0 ? 1 << 29 : 0)) & keep[i];
            }
        });
    });
}
