// The links of a chain: layers one after the other, each with or without an activation behind it.
#pragma once

#include "../activations.h"
#include "convolution.h"
#include "pooling.h"

enum LinkKind : int32_t { LINEAR, CONVOLUTION, POOLING };

// structs.py has the same fields in the same order.
struct Link {
    const void* form;     // of the matrix: a Sliced or a Blocked; of a pooling null
    const float* scales;
    const void* bias;
    int32_t bias_type;    // a ValueType
    const void* picture;  // of a convolution its Geometry, of a pooling the Pooling, else null
    int32_t kind;         // a LinkKind
    int32_t n_columns, n_rows;
    int32_t activation;   // an Activation, or 0
    float slope;          // of a LEAKY_RELU

    Epilogue then() const { return {scales, bias, bias_type, activation == RELU}; }

    // Whether an activation is left that no product does.
    bool has_activation() const { return activation > (kind == POOLING ? 0 : RELU); }

    // It for n_rows times n neighbouring floats, whose rows are `stride` apart, rounded to a type.
    void finish(int32_t type, float* at, int64_t n_rows, int64_t n, int64_t stride) const {
        if (!has_activation()) return;
        activate(activation, slope, at, n_rows, n, stride);
        if (type != FLOAT32)
            for (int64_t r = 0; r < n_rows; r++) round_floats(type, at + r * stride, n);
    }

    // The same for results [sample][feature] of this type, of which some features of n samples are finished.
    void finish(const Results& y, int64_t f0, int64_t n_features, int64_t s, int64_t n) const {
        if (!has_activation()) return;
        with_operand_type(y.type, [&](auto of) {
            using Type = decltype(of);
            auto* at = elements<Type>(y.at) + s * y.stride + f0;
            if constexpr (Type::IS_FLOAT) return activate(activation, slope, at, n, n_features, y.stride);
            constexpr int64_t AT_ONCE = 256;
            float some[AT_ONCE];
            for (int64_t i = 0; i < n; i++, at += y.stride)
                for (int64_t f = 0; f < n_features; f += AT_ONCE) {
                    const int64_t n_here = smaller(AT_ONCE, n_features - f);
                    copy_as_floats<Type>(at + f, n_here, some);
                    activate(activation, slope, some, 1, n_here, n_here);
                    copy_from_floats<Type>(some, n_here, at + f);
                }
        });
    }

    // Of what takes pictures.
    const Geometry& geometry() const {
        return kind == POOLING ? static_cast<const Pooling*>(picture)->g : *static_cast<const Geometry*>(picture);
    }
    int64_t n_inputs() const { return geometry().in_channels * geometry().in_volume(); }
    int64_t n_outputs() const { return geometry().out_channels * geometry().out_volume(); }
};

// structs.py has the same fields in the same order.
struct Chain {
    const Link* links;
    int64_t n_links;
    int64_t n_pictures;  // links that take pictures: the first ones; then linear layers come
    int64_t n_at_once;   // samples whose pictures go through all of them together
    int32_t type;        // of input and output: what passes from link to link is rounded to it
};
