// The links of a chain: layers one after the other, each with or without an activation behind it.
#pragma once

#include "../activations.h"
#include "convolution.h"
#include "pooling.h"

enum LinkKind : int32_t { LINEAR, CONVOLUTION, POOLING };

// structs.py has the same fields in the same order.
struct Link {
    const void* form;     // of the matrix: a Sliced or a Blocked; of a pooling null
    const float *scales, *bias;
    const void* picture;  // of a convolution its Geometry, of a pooling the Pooling, else null
    int32_t kind;         // a LinkKind
    int32_t n_columns, n_rows;
    int32_t activation;   // an Activation, or 0
    float slope;          // of a LEAKY_RELU

    Epilogue then() const { return {scales, bias, activation == RELU}; }

    // The activation of n_rows times n neighbouring results, whose rows are `stride` apart, but for what a product does.
    void finish(float* at, int64_t n_rows, int64_t n, int64_t stride) const {
        if (activation > (kind == POOLING ? 0 : RELU)) activate(activation, slope, at, n_rows, n, stride);
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
};
