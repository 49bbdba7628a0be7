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

// The features of n samples from s on, up to TILE, in a panel. What is behind the last is zero up to a whole vector.
static void fill_panel(const Operand& x, int64_t s, int64_t n, int64_t n_features, float* panel) {
    if (n % LANES)
        for (int64_t f = 0; f < n_features; f++) store(panel + f * TILE + n / LANES * LANES, Floats{});
    x.copy(s, n, 0, n_features, panel, TILE);
}

// Where the results of a tile go: to the panel of a layer that follows, rounded as if they had been stored, or to y.
struct TileOutput {
    float* panel;  // of the tile: [feature][TILE], or null
    Results y;
    int64_t first_sample;  // of the tile
};

// The row blocks [b0, b1) of a matrix times the panel of one tile of n samples. `sums` has room for those of a row block.
static void blocked_tile(const Blocked& m, const Epilogue& then, const float* panel, int64_t n, const TileOutput& to,
                         float* sums, int32_t b0, int32_t b1) {
    const int n_vectors = (n + LANES - 1) / LANES;
    const BlockProduct product = block_product_of(n_vectors);
    const Places places = Places::in_a_row(n_vectors, n_vectors * LANES);
    for (int32_t i = b0; i < b1; i++) {
        const int32_t row = m.first_row(i), n_rows = m.end_row(i) - row;
        const Target target = to.panel ? Target{to.panel + int64_t{row} * TILE, TILE, places}
                                       : Target{sums, n_vectors * LANES, places};
        for (int32_t b = 0; b < m.n_column_blocks; b++) {
            const auto* inputs = reinterpret_cast<const char*>(panel + int64_t{b} * LINEAR_COLUMNS * TILE);
            const Step step{inputs, sums, row, b == 0, b == m.n_column_blocks - 1};
            product(m.blocks[int64_t{i} * m.n_column_blocks + b], step, then, target);
        }
        if (to.panel) round_floats(to.y.type, to.panel + int64_t{row} * TILE, int64_t{n_rows} * TILE);
        else to.y.store_turned(sums, n_vectors * LANES, row, n_rows, to.first_sample, n);
    }
}
