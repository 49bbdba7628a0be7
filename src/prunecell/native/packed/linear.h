// Linear layers with many samples: a blocked matrix times panels.
#pragma once

#include "../linear.h"
#include "block_product.h"

// The panels of a linear layer: [tile of samples][feature][TILE].
constexpr int TILE = USUAL_BLOCK;

// Features of a block: their inputs for a tile stay in the first-level cache.
constexpr int32_t LINEAR_COLUMNS = 128;

// Packs the matrix of a linear layer into row blocks of at most so many rows. Returns an Outcome or a WRONG.
EXPORT int32_t pc_block_linear(const Matrix* m, int32_t block_rows, Packed* packed) {
    uint16_t offsets[LINEAR_COLUMNS];
    for (int32_t c = 0; c < LINEAR_COLUMNS; c++) offsets[c] = c * TILE * sizeof(float);
    return pack_blocked(*m, m->n_rows, block_rows, LINEAR_COLUMNS, offsets, packed);
}

// Where x is its own panel: nothing has to be copied.
INLINE bool is_panel(const Activations& x, int64_t n_samples) {
    return x.feature_major() && x.feature_stride == TILE && n_samples <= TILE;
}

// The panels of the features [f0, f1). Samples behind the last are zeros.
EXPORT void pc_panels(float* x, int64_t x_feature_stride, int64_t x_sample_stride, int64_t n_features,
                      int64_t n_samples, float* panels, int32_t f0, int32_t f1) {
    const Activations from{x, x_feature_stride, x_sample_stride};
    for (int64_t s = 0; s < n_samples; s += TILE) {
        const int64_t n = smaller(TILE, n_samples - s);
        float* to = panels + s * n_features + int64_t{f0} * TILE;
        if (n < TILE) memset(to, 0, (int64_t{f1} - f0) * TILE * sizeof(float));
        const float* first = x + f0 * x_feature_stride + s * x_sample_stride;
        if (from.feature_major())
            for (int32_t f = f0; f < f1; f++, first += x_feature_stride, to += TILE) copy_floats(first, n, to);
        else
            transpose(first, x_sample_stride, n, f1 - f0, to, TILE);
    }
}

// y = x W^T + bias, then max(0, .) where asked, for the row blocks [b0, b1) and the tiles [t0, t1) of x, which is given
// as its panels. Returns an Outcome.
EXPORT int32_t pc_blocked_linear(const Blocked* m, const float* scales, const float* bias, int32_t relu,
                                 const float* panels, int64_t n_features, int64_t n_samples, float* y,
                                 int64_t y_feature_stride, int64_t y_sample_stride, int32_t b0, int32_t b1, int32_t t0,
                                 int32_t t1) {
    const Activations to{y, y_feature_stride, y_sample_stride};
    const Epilogue then{scales, bias, relu != 0};
    const Scratch<float> sums(int64_t{m->block_rows} * TILE);
    if (!sums.at) return NO_MEMORY;
    for (int64_t s = int64_t{t0} * TILE, end = smaller(n_samples, int64_t{t1} * TILE); s < end; s += TILE) {
        const int64_t n = smaller(TILE, end - s);
        const int n_vectors = (n + LANES - 1) / LANES;
        const BlockProduct product = block_product_of(n_vectors);
        const Places places = Places::in_a_row(n_vectors, to.feature_major() ? n : n_vectors * LANES);
        for (int32_t i = b0; i < b1; i++) {
            const int32_t row = m->first_row(i), n_rows = m->end_row(i) - row;
            float* at = y + row * y_feature_stride + s * y_sample_stride;
            const Target target = to.feature_major() ? Target{at, y_feature_stride, places}
                                                     : Target{sums.at, n_vectors * LANES, places};
            for (int32_t b = 0; b < m->n_column_blocks; b++) {
                const float* panel = panels + s * n_features + int64_t{b} * LINEAR_COLUMNS * TILE;
                const Step step{reinterpret_cast<const char*>(panel), sums.at, row, b == 0, b == m->n_column_blocks - 1};
                product(m->blocks[int64_t{i} * m->n_column_blocks + b], step, then, target);
            }
            if (!to.feature_major()) transpose(sums.at, n_vectors * LANES, n_rows, n, at, y_sample_stride);
        }
    }
    return DONE;
}
