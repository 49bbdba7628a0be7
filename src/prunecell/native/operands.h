// What a layer reads and writes: floats, or half precision or bfloat16 numbers, which become floats on the way in, and are
// rounded on the way out.
#pragma once

#include "values.h"

template <class Type>
INLINE const typename Type::Stored* elements(const void* at) {
    return static_cast<const typename Type::Stored*>(at);
}

template <class Type>
INLINE typename Type::Stored* elements(void* at) {
    return static_cast<typename Type::Stored*>(at);
}

template <class Type>
INLINE float element(const void* at, int64_t i) {
    return Type::one(elements<Type>(at)[i]);
}

// n neighbours as floats.
template <class Type>
INLINE void copy_as_floats(const typename Type::Stored* from, int64_t n, float* to) {
    if constexpr (Type::IS_FLOAT) copy_floats(from, n, to);
    else decode_values<Type>(from, n, to);
}

// n floats to neighbours.
template <class Type>
INLINE void copy_from_floats(const float* from, int64_t n, typename Type::Stored* to) {
    if constexpr (Type::IS_FLOAT) return copy_floats(from, n, to);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) Type::store(to + i, load<Floats>(from + i));
    if (i < n) Type::store_first(to + i, load<Floats>(Padded<float>(from + i, n - i).at), static_cast<int>(n - i));
}

// Rounds floats to what a type can store, in place.
static void round_floats(int32_t type, float* at, int64_t n) {
    with_operand_type(type, [=](auto of) {
        using Type = decltype(of);
        if constexpr (!Type::IS_FLOAT) {
            typename Type::Stored rounded[LANES];
            for (int64_t i = 0; i < n; i += LANES) {
                const int64_t n_here = smaller(LANES, n - i);
                copy_from_floats<Type>(at + i, n_here, rounded);
                copy_as_floats<Type>(rounded, n_here, at + i);
            }
        }
    });
}

// from[0], from[stride], from[2 * stride], ... as floats.
template <class Type>
INLINE Floats every(int64_t stride, const typename Type::Stored* from) {
    if (Type::IS_FLOAT && stride == 2) return every_second(reinterpret_cast<const float*>(from));
    typename Type::Stored lanes[LANES];
    for (int i = 0; i < LANES; i++) lanes[i] = from[i * stride];
    return Type::load(lanes);
}

// The same in lanes where the mask has ones, as bits; 0 in the others, which read nothing.
template <class Type>
INLINE Ints every_where(Ints mask, int64_t stride, const typename Type::Stored* from) {
    if constexpr (Type::IS_FLOAT) {
        return load_where(mask, from, stride);
    } else {
        typename Type::Stored lanes[LANES] = {};
        for (int i = 0; i < LANES; i++)
            if (mask[i]) lanes[i] = from[i * stride];
        return same_bits<Ints>(Type::load(lanes));
    }
}

// ---- transposing -----------------------------------------------------------------------------------------------------

INLINE void turn(Floats (&rows)[LANES]) {
    Floats turned[LANES];
    if constexpr (!HAS_INTERLEAVE) {
        for (int i = 0; i < LANES; i++)
            for (int j = 0; j < LANES; j++) turned[j][i] = rows[i][j];
        for (int i = 0; i < LANES; i++) rows[i] = turned[i];
        return;
    }
    // Row and column numbers of log2(LANES) bits each stand side by side. Interleaving the first half of the rows with
    // the second rotates them by one bit, so after log2(LANES) rounds they have changed places.
    for (int round = 1; round < LANES; round *= 2) {
        for (int i = 0; i < LANES / 2; i++) {
            turned[2 * i] = interleave_lower(rows[i], rows[i + LANES / 2]);
            turned[2 * i + 1] = interleave_higher(rows[i], rows[i + LANES / 2]);
        }
        for (int i = 0; i < LANES; i++) rows[i] = turned[i];
    }
}

// to[j][i] = from[i][j] for i < n_rows, j < n_columns, both up to LANES. With `whole` rows LANES of each can be read.
template <class From, class To>
static void transpose_part(const typename From::Stored* from, int64_t from_stride, int n_rows, int n_columns, bool whole,
                           typename To::Stored* to, int64_t to_stride) {
    Floats rows[LANES] = {};
    for (int i = 0; i < n_rows; i++, from += from_stride)
        if (whole) rows[i] = From::load(from);
        else rows[i] = From::load(Padded<typename From::Stored>(from, n_columns).at);
    turn(rows);
    for (int j = 0; j < n_columns; j++, to += to_stride)
        if (n_rows == LANES) To::store(to, rows[j]);
        else To::store_first(to, rows[j], n_rows);
}

template <class From, class To>
static void transpose_square(const typename From::Stored* from, int64_t from_stride, typename To::Stored* to,
                             int64_t to_stride) {
    Floats rows[LANES];
    for (int i = 0; i < LANES; i++) rows[i] = From::load(from + i * from_stride);
    turn(rows);
    for (int j = 0; j < LANES; j++) To::store(to + j * to_stride, rows[j]);
}

// to[j][i] = from[i][j] for i < n_rows, j < n_columns, of two types. With `whole` rows they can be read up to the end of
// a vector.
template <class From, class To>
static void transpose(const typename From::Stored* from, int64_t from_stride, int64_t n_rows, int64_t n_columns,
                      typename To::Stored* to, int64_t to_stride, bool whole = false) {
    for (int64_t j = 0; j < n_columns; j += LANES)
        for (int64_t i = 0; i < n_rows; i += LANES) {
            const int n_here = static_cast<int>(smaller(LANES, n_rows - i));
            const int n_of_row = static_cast<int>(smaller(LANES, n_columns - j));
            const auto* source = from + i * from_stride + j;
            auto* target = to + j * to_stride + i;
            if (n_here == LANES && n_of_row == LANES)
                transpose_square<From, To>(source, from_stride, target, to_stride);
            else
                transpose_part<From, To>(source, from_stride, n_here, n_of_row, whole || n_of_row == LANES, target,
                                         to_stride);
        }
}

// ---- what a linear layer reads and writes ----------------------------------------------------------------------------

// Element (feature f, sample s) is at[f * feature_stride + s * sample_stride]; one of the strides is 1.
struct Operand {
    const void* at;
    int64_t feature_stride, sample_stride;
    int32_t type;

    bool feature_major() const { return sample_stride == 1; }

    // Whether they are floats that lie as in a panel [feature][width] already.
    bool is_panel_of(int64_t width, int64_t n_samples) const {
        return type == FLOAT32 && feature_major() && feature_stride == width && n_samples == width;
    }

    // The features [f0, f1) of n samples from s on, as floats: to[(f - f0) * stride + sample].
    void copy(int64_t s, int64_t n, int64_t f0, int64_t f1, float* to, int64_t stride) const {
        with_operand_type(type, [&](auto of) {
            using Type = decltype(of);
            const auto* from = elements<Type>(at) + s * sample_stride + f0 * feature_stride;
            if (!feature_major()) return transpose<Type, Float32>(from, sample_stride, n, f1 - f0, to, stride);
            for (int64_t f = f0; f < f1; f++, from += feature_stride, to += stride) copy_as_floats<Type>(from, n, to);
        });
    }
};

// Element (feature f, sample s) is at[s * stride + f].
struct Results {
    void* at;
    int64_t stride;
    int32_t type;

    // Stores the features [f0, f0 + n_features) of n samples from s on, which are from[feature * from_stride + sample], in
    // whole vectors.
    void store_turned(const float* from, int64_t from_stride, int64_t f0, int64_t n_features, int64_t s, int64_t n) const {
        with_operand_type(type, [&](auto of) {
            using Type = decltype(of);
            transpose<Float32, Type>(from, from_stride, n_features, n, elements<Type>(at) + s * stride + f0, stride, true);
        });
    }
};
