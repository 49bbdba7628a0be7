// Linear layers with many samples: a blocked matrix times panels.
#pragma once

#include "../linear.h"
#include "block_product.h"

// The panel of a linear layer has the inputs of so many samples, [feature][TILE].
constexpr int TILE = USUAL_BLOCK;

// Features of a block: their inputs for a tile stay in the first-level cache.
constexpr int32_t LINEAR_COLUMNS = 128;

// Packs the matrix of a linear layer into row blocks of at most so many rows. Returns an Outcome or a WRONG.
EXPORT int32_t pc_block_linear(const Matrix* m, int32_t block_rows, Packed* packed) {
    uint16_t offsets[LINEAR_COLUMNS];
    for (int32_t c = 0; c < LINEAR_COLUMNS; c++) offsets[c] = c * TILE * sizeof(float);
    return pack_blocked(*m, m->n_rows, block_rows, LINEAR_COLUMNS, offsets, packed);
}

// The features [f0, f1) of n samples, up to TILE, in a panel. What is behind the last sample is zero up to a whole vector.
static void fill_panel(const Activations& x, int64_t n, int32_t f0, int32_t f1, float* panel) {
    const float* from = x.at + f0 * x.feature_stride;
    float* to = panel + int64_t{f0} * TILE;
    if (n % LANES)
        for (int32_t f = 0; f < f1 - f0; f++) store(to + f * TILE + n / LANES * LANES, Floats{});
    if (x.feature_major())
        for (int32_t f = f0; f < f1; f++, from += x.feature_stride, to += TILE) copy_floats(from, n, to);
    else
        transpose(from, x.sample_stride, n, f1 - f0, to, TILE);
}

EXPORT int32_t pc_panel(float* x, int64_t x_feature_stride, int64_t x_sample_stride, int64_t n_samples, float* panel,
                        int32_t f0, int32_t f1) {
    fill_panel({x, x_feature_stride, x_sample_stride}, n_samples, f0, f1, panel);
    return DONE;
}

// Where the results of a tile go: to the panel of a layer that follows, or to samples.
struct TileOutput {
    float* panel;  // of the tile: [feature][TILE], or null
    Activations y; // of the tile's first sample
};

// The row blocks [b0, b1) of a matrix times the panel of one tile of n samples. `sums` has room for those of a row block.
static void blocked_tile(const Blocked& m, const Epilogue& then, const float* panel, int64_t n, const TileOutput& to,
                         float* sums, int32_t b0, int32_t b1) {
    const int n_vectors = (n + LANES - 1) / LANES;
    const BlockProduct product = block_product_of(n_vectors);
    const Activations& y = to.y;
    const bool is_feature_major = !to.panel && y.feature_major();
    const Places places = Places::in_a_row(n_vectors, is_feature_major ? n : n_vectors * LANES);
    for (int32_t i = b0; i < b1; i++) {
        const int32_t row = m.first_row(i), n_rows = m.end_row(i) - row;
        const Target target = to.panel           ? Target{to.panel + int64_t{row} * TILE, TILE, places}
                              : is_feature_major ? Target{y.at + row * y.feature_stride, y.feature_stride, places}
                                                 : Target{sums, n_vectors * LANES, places};
        for (int32_t b = 0; b < m.n_column_blocks; b++) {
            const auto* inputs = reinterpret_cast<const char*>(panel + int64_t{b} * LINEAR_COLUMNS * TILE);
            const Step step{inputs, sums, row, b == 0, b == m.n_column_blocks - 1};
            product(m.blocks[int64_t{i} * m.n_column_blocks + b], step, then, target);
        }
        if (!to.panel && !is_feature_major)
            transpose(sums, n_vectors * LANES, n_rows, n, y.at + row * y.feature_stride, y.sample_stride);
    }
}

// y = x W^T + bias, then max(0, .) where asked, for the row blocks [b0, b1) and a tile of x, which is given as its panel:
// for threads that share a tile. Returns an Outcome.
EXPORT int32_t pc_blocked_tile(const Blocked* m, const float* scales, const float* bias, int32_t relu,
                               const float* panel, int64_t n_samples, float* y, int64_t y_feature_stride,
                               int64_t y_sample_stride, int32_t b0, int32_t b1) {
    const Scratch<float> sums(int64_t{m->block_rows} * TILE);
    if (!sums.at) return NO_MEMORY;
    const TileOutput to{nullptr, {y, y_feature_stride, y_sample_stride}};
    blocked_tile(*m, {scales, bias, relu != 0}, panel, n_samples, to, sums.at, b0, b1);
    return DONE;
}
