// Linear layers.
#pragma once

#include "product.h"
#include "vector_product.h"

struct LinearInput {
    Operand x;
    int64_t n_features, n_samples, width, chunk;
    bool in_place;               // x is one panel already
    int64_t n_readable_columns;  // in every panel
    Scratch<float> packed;

    // The panel of a single block is as long as any stored column leads. Behind the features it stays untouched where
    // the columns are sound: it takes addresses there, and no memory.
    LinearInput(const Operand& activations, int64_t features, int64_t samples, int64_t any_column)
        : x(activations),
          n_features(features),
          n_samples(samples),
          width(usual_width(samples)),
          chunk(width),
          in_place(x.is_panel_of(width, n_samples) && is_aligned(elements<Float32>(x.at))),
          n_readable_columns(in_place || n_samples > width ? n_features : larger(n_features, any_column)),
          packed(in_place ? 0 : larger(n_features * round_up(n_samples, width), n_readable_columns * width)) {}

    const int32_t* table() const { return nullptr; }
    int64_t columns_at_once() const { return PANEL_FLOATS / width; }
    const float* panel(int64_t s, int64_t) const {
        return in_place ? elements<Float32>(x.at) : packed.at + s * n_features;
    }

    // Packs the features [f0, f1) of all samples.
    void pack(int64_t f0, int64_t f1) const {
        for (int64_t s = 0; s < n_samples; s += width) {
            float* to = packed.at + s * n_features + f0 * width;
            const int64_t n = smaller(width, n_samples - s);
            if (n < width) memset(to, 0, (f1 - f0) * width * sizeof(float));
            x.copy(s, n, f0, f1, to, width);
        }
    }
};

// [sample][feature].
struct LinearOutput {
    Results y;

    int64_t row_stride() const { return 1; }
    float* destination(int32_t, int64_t, int64_t) const { return nullptr; }
    void store_tile(const float* tile, int32_t row, int64_t n_rows, int64_t s, int64_t n) const {
        y.store_turned(tile, BLOCK, row, n_rows, s, n);
    }
};

// y = x W^T + bias, then max(0, .) where asked. Strides of x are in elements; y is [sample][feature], of the same type.
// With one sample the input must be contiguous. Returns an Outcome or a WRONG: then y is not to be used.
EXPORT int32_t pc_linear(const Matrix* m, const void* bias, int32_t bias_type, int32_t relu, int32_t type, const void* x,
                         int64_t feature_stride, int64_t sample_stride, int64_t n_samples, void* y, const Team* team) {
    if (m->n_columns == 0 && m->n_entries > 0) return wrong_indices(*m);
    const Epilogue then{m->scales, bias, bias_type, relu != 0};
    if (n_samples == 1) return vector_product(*m, type, x, then, y, team);
    const int64_t any_column = with_format(m->format, [](auto format) { return format.ANY_COLUMN; });
    LinearInput input({x, feature_stride, sample_stride, type}, m->n_columns, n_samples, any_column);
    if (!input.packed.at) return NO_MEMORY;
    if (!input.in_place)
        share(team, m->n_columns, [&](auto take) {
            take([&](int64_t f0, int64_t f1) { input.pack(f0, f1); });
            return DONE;
        });
    return share(team, m->n_rows, [&](auto take) {
        int32_t outcome = DONE;
        take([&](int64_t r0, int64_t r1) {
            if (outcome == DONE)
                outcome = product(*m, r0, r1, 0, n_samples, input, then, LinearOutput{{y, m->n_rows, type}});
        });
        return outcome;
    });
}
