// Linear layers that quantise their inputs: y = x W^T + bias, then max(0, .) where asked.
//
// Samples are rows of features. W has int8 values, packed as quads.
#pragma once

#include "quad_product.h"
#include "quantised.h"

// task(Bytes) with the way to multiply bytes.
template <class Task>
INLINE void with_bytes(bool has_vnni, Task task) {
    if (has_vnni) task(UnsignedBytes{Ints{}});
    else task(SignedBytes{Ints{}});
}

INLINE int32_t zero_of(bool has_vnni) { return has_vnni ? UnsignedBytes::ZERO : SignedBytes::ZERO; }

// Quantises up to USUAL_BLOCK samples into a panel [quad][USUAL_BLOCK]. `rows` has room for LANES of them, at `stride`
// from each other.
static void fill_quad_panel(const float* x, int64_t n_features, int64_t n_samples, int32_t zero, int8_t* rows,
                            int64_t stride, float* panel, float* steps) {
    for (int64_t s0 = 0; s0 < n_samples; s0 += LANES) {
        for (int64_t s = 0; s < LANES; s++) {
            int8_t* row = rows + s * stride;
            if (s0 + s < n_samples)
                steps[s0 + s] = quantise(x + (s0 + s) * n_features, n_features, zero, row);
            else
                memset(row, 0, stride), steps[s0 + s] = 0;
        }
        transpose(reinterpret_cast<const float*>(rows), stride / sizeof(float), LANES,
                  quantised_bytes(n_features) / sizeof(float), panel + s0, USUAL_BLOCK);
    }
}

// The row blocks [b0, b1) of a matrix times the panel of n samples; y is that of the first. `sums` has room for those of
// a row block.
static void quad_tile(const BlockedQuads& m, const Epilogue& then, const float* panel, const float* steps, int64_t n,
                      float* y, float* sums, int32_t b0, int32_t b1) {
    const Blocked& shape = m.shape;
    const int n_vectors = (n + LANES - 1) / LANES;
    QuadBlockProduct product;
    with_bytes(m.has_vnni, [&](auto bytes) { product = quad_block_product_of<decltype(bytes)>(n_vectors); });
    const Places places = Places::in_a_row(n_vectors, n_vectors * LANES);
    const Target target{sums, n_vectors * LANES, places};
    for (int32_t i = b0; i < b1; i++) {
        const int32_t row = shape.first_row(i), n_rows = shape.end_row(i) - row;
        for (int32_t b = 0; b < shape.n_column_blocks; b++) {
            const auto* inputs = reinterpret_cast<const char*>(panel + int64_t{b} * BLOCK_QUADS * USUAL_BLOCK);
            const QuadStep step{inputs, reinterpret_cast<int32_t*>(sums), m.firsts + row, steps, row, b == 0,
                                b == shape.n_column_blocks - 1};
            product(m.blocks[int64_t{i} * shape.n_column_blocks + b], step, then, target);
        }
        transpose(sums, n_vectors * LANES, n_rows, n, y + row, shape.n_rows);
    }
}

// The tiles [t0, t1) of n_samples samples of n_features. Returns an Outcome.
EXPORT int32_t pc_quantised_tiles(const BlockedQuads* m, const float* scales, const float* bias, int32_t relu,
                                  const float* x, int64_t n_features, int64_t n_samples, float* y, int64_t t0,
                                  int64_t t1) {
    const int64_t stride = quantised_bytes(n_features) + CACHE_LINE;  // so that rows are not at one place of the cache
    const Scratch<int8_t> rows(stride * LANES);
    const Scratch<float> panel(quantised_bytes(n_features) / QUAD * USUAL_BLOCK), steps(USUAL_BLOCK);
    const Scratch<float> sums(int64_t{m->shape.block_rows} * USUAL_BLOCK);
    if (!rows.at || !panel.at || !steps.at || !sums.at) return NO_MEMORY;
    for (int64_t s = t0 * USUAL_BLOCK, end = smaller(n_samples, t1 * USUAL_BLOCK); s < end; s += USUAL_BLOCK) {
        const int64_t n = smaller(USUAL_BLOCK, end - s);
        fill_quad_panel(x + s * n_features, n_features, n, zero_of(m->has_vnni), rows.at, stride, panel.at, steps.at);
        quad_tile(*m, {scales, bias, relu != 0}, panel.at, steps.at, n, y + s * m->shape.n_rows, sums.at, 0,
                  m->shape.n_row_blocks);
    }
    return DONE;
}

// Samples that are multiplied without a panel.
constexpr int MOST_QUANTISED = 2;

template <class Bytes, int SAMPLES = MOST_QUANTISED>
static void quad_slices(int64_t n_samples, const SlicedQuads& m, const QuantisedSamples& x, const Epilogue& then,
                        const Activations& y, int32_t slice0, int32_t slice1) {
    if constexpr (SAMPLES > 1)
        if (n_samples < SAMPLES) return quad_slices<Bytes, SAMPLES - 1>(n_samples, m, x, then, y, slice0, slice1);
    quad_slices_product<Bytes, SAMPLES>(m, x, then, y, slice0, slice1);
}

// The slices [slice0, slice1) for 1 to MOST_QUANTISED samples of n_features. Returns an Outcome.
EXPORT int32_t pc_quantised_few(const SlicedQuads* m, const float* scales, const float* bias, int32_t relu,
                                const float* x, int64_t n_features, int64_t n_samples, float* y, int64_t slice0,
                                int64_t slice1) {
    const int64_t stride = quantised_bytes(n_features);
    const Scratch<int8_t> rows(stride * n_samples);
    float steps[MOST_QUANTISED];
    if (!rows.at) return NO_MEMORY;
    for (int64_t s = 0; s < n_samples; s++)
        steps[s] = quantise(x + s * n_features, n_features, zero_of(m->has_vnni), rows.at + s * stride);
    with_bytes(m->has_vnni, [&](auto bytes) {
        quad_slices<decltype(bytes)>(n_samples, *m, {rows.at, stride, steps}, {scales, bias, relu != 0},
                                     {y, 1, m->n_rows}, slice0, slice1);
    });
    return DONE;
}
