// Linear layers.
#pragma once

#include "product.h"
#include "vector_product.h"

// Activations: element (feature f, sample s) is at[f * feature_stride + s * sample_stride]; one of the strides is 1.
struct Activations {
    float* at;
    int64_t feature_stride, sample_stride;
    bool feature_major() const { return sample_stride == 1; }
};

struct LinearInput {
    Activations x;
    int64_t n_features, n_samples, width, chunk;
    bool in_place;               // x is one panel already
    int64_t n_readable_columns;  // in every panel
    Scratch<float> packed;

    // The panel of a single block is as long as any stored column leads. Behind the features it stays untouched where
    // the columns are sound: it takes addresses there, and no memory.
    LinearInput(const Activations& activations, int64_t features, int64_t samples, int64_t any_column)
        : x(activations),
          n_features(features),
          n_samples(samples),
          width(usual_width(samples)),
          chunk(width),
          in_place(x.feature_major() && x.feature_stride == width && n_samples == width && is_aligned(x.at)),
          n_readable_columns(in_place || n_samples > width ? n_features : larger(n_features, any_column)),
          packed(in_place ? 0 : larger(n_features * round_up(n_samples, width), n_readable_columns * width)) {
        if (packed.at && !in_place) pack();
    }

    const int32_t* table() const { return nullptr; }
    int64_t columns_at_once() const { return PANEL_FLOATS / width; }
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

    float* destination(int32_t row, int64_t s, int64_t) const {
        return y.feature_major() ? y.at + row * y.feature_stride + s : nullptr;
    }

    void store_tile(const float* tile, int32_t row, int64_t n_rows, int64_t s, int64_t n) const {
        float* to = y.at + row * y.feature_stride + s * y.sample_stride;
        if (y.feature_major())
            for (int64_t r = 0; r < n_rows; r++) copy_floats(tile + r * BLOCK, n, to + r * y.feature_stride);
        else
            transpose(tile, BLOCK, n_rows, n, to, y.sample_stride);
    }
};

// y = x W^T + bias, then max(0, .) where asked, for the rows [r0, r1) of W. Strides are in floats. With one sample the
// input must be contiguous. Returns an Outcome or a WRONG: then y is not to be used.
EXPORT int32_t pc_linear(const Matrix* m, const float* bias, int32_t relu, float* x, int64_t x_feature_stride,
                         int64_t x_sample_stride, int64_t n_samples, float* y, int64_t y_feature_stride,
                         int64_t y_sample_stride, int32_t r0, int32_t r1) {
    if (m->n_columns == 0 && m->n_entries > 0) return wrong_indices(*m);
    Epilogue then{m->scales, bias, relu != 0};
    if (n_samples == 1) return vector_product(*m, r0, r1, x, then, y, y_feature_stride);
    int64_t any_column = with_format(m->format, [](auto format) { return format.ANY_COLUMN; });
    LinearInput input({x, x_feature_stride, x_sample_stride}, m->n_columns, n_samples, any_column);
    if (!input.packed.at) return NO_MEMORY;
    return product(*m, r0, r1, n_samples, input, then, LinearOutput{{y, y_feature_stride, y_sample_stride}});
}
