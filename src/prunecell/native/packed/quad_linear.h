// Linear layers that quantise their inputs: y = x W^T + bias, then max(0, .) where asked.
//
// Samples are rows of features. W has int8 values, packed as quads.
#pragma once

#include "quad_product.h"
#include "quantised.h"
#include "../team.h"

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
        transpose<Float32, Float32>(reinterpret_cast<const float*>(rows), stride / sizeof(float), LANES,
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
        transpose<Float32, Float32>(sums, n_vectors * LANES, n_rows, n, y + row, shape.n_rows, true);
    }
}

// Samples on their way through a layer.
struct QuantisedInput {
    const float* x;  // [sample][feature]
    int64_t n_features, n_samples;

    int64_t n_tiles() const { return (n_samples + USUAL_BLOCK - 1) / USUAL_BLOCK; }
    // So that rows are not all at one place of the cache.
    int64_t stride() const { return quantised_bytes(n_features) + CACHE_LINE; }
};

// What a thread needs to compute tiles.
struct QuadRoom {
    const Scratch<int8_t> rows;
    const Scratch<float> panel, steps, sums;

    QuadRoom(const BlockedQuads& m, const QuantisedInput& of)
        : rows(of.stride() * LANES),
          panel(quantised_bytes(of.n_features) / QUAD * USUAL_BLOCK),
          steps(USUAL_BLOCK),
          sums(int64_t{m.shape.block_rows} * USUAL_BLOCK) {}

    bool has_memory() const { return rows.at && panel.at && steps.at && sums.at; }

    int64_t fill(const QuantisedInput& of, int64_t tile, bool has_vnni) const {
        const int64_t s = tile * USUAL_BLOCK, n = smaller(USUAL_BLOCK, of.n_samples - s);
        fill_quad_panel(of.x + s * of.n_features, of.n_features, n, zero_of(has_vnni), rows.at, of.stride(), panel.at,
                        steps.at);
        return n;
    }
};

// y for any number of samples. Threads share whole tiles, and work together on each of those that are left, which every
// thread quantises for itself. Returns an Outcome.
EXPORT int32_t pc_quantised_many(const BlockedQuads* m, const float* scales, const void* bias, int32_t bias_type,
                                 int32_t relu, const float* x, int64_t n_features, int64_t n_samples, float* y, const Team* team) {
    const QuantisedInput of{x, n_features, n_samples};
    const Epilogue then{scales, bias, bias_type, relu != 0};
    const int64_t n_threads = team ? team->n_threads : 1, n_apart = of.n_tiles() / n_threads * n_threads;
    const int32_t n_blocks = m->shape.n_row_blocks;
    auto compute = [&](const QuadRoom& room, int64_t tile, int64_t n, int32_t b0, int32_t b1) {
        quad_tile(*m, then, room.panel.at, room.steps.at, n, y + tile * USUAL_BLOCK * m->shape.n_rows, room.sums.at, b0, b1);
    };
    int32_t outcome = share(team, n_apart, [&](auto take) {
        const QuadRoom room(*m, of);
        if (!room.has_memory()) return NO_MEMORY;
        take([&](int64_t t0, int64_t t1) {
            for (int64_t tile = t0; tile < t1; tile++)
                compute(room, tile, room.fill(of, tile, m->has_vnni), 0, n_blocks);
        });
        return DONE;
    });
    for (int64_t tile = n_apart; tile < of.n_tiles() && outcome == DONE; tile++)
        outcome = share(team, n_blocks, [&](auto take) {
            const QuadRoom room(*m, of);
            if (!room.has_memory()) return NO_MEMORY;
            const int64_t n = room.fill(of, tile, m->has_vnni);
            take([&](int64_t b0, int64_t b1) { compute(room, tile, n, b0, b1); });
            return DONE;
        });
    return outcome;
}

// Samples that are multiplied without a panel.
constexpr int MOST_QUANTISED = 2;

template <class Bytes, int SAMPLES = MOST_QUANTISED>
static void quad_slices(int64_t n_samples, const SlicedQuads& m, const QuantisedSamples& x, const Epilogue& then,
                        float* y, int32_t slice0, int32_t slice1) {
    if constexpr (SAMPLES > 1)
        if (n_samples < SAMPLES) return quad_slices<Bytes, SAMPLES - 1>(n_samples, m, x, then, y, slice0, slice1);
    quad_slices_product<Bytes, SAMPLES>(m, x, then, y, slice0, slice1);
}

// y for 1 to MOST_QUANTISED samples; threads share the slices. Returns an Outcome.
EXPORT int32_t pc_quantised_few(const SlicedQuads* m, const float* scales, const void* bias, int32_t bias_type,
                                int32_t relu, const float* x, int64_t n_features, int64_t n_samples, float* y, const Team* team) {
    const int64_t stride = quantised_bytes(n_features);
    const Scratch<int8_t> rows(stride * n_samples);
    float steps[MOST_QUANTISED];
    if (!rows.at) return NO_MEMORY;
    for (int64_t s = 0; s < n_samples; s++)
        steps[s] = quantise(x + s * n_features, n_features, zero_of(m->has_vnni), rows.at + s * stride);
    return share(team, m->n_slices, [&](auto take) {
        take([&](int64_t slice0, int64_t slice1) {
            with_bytes(m->has_vnni, [&](auto bytes) {
                quad_slices<decltype(bytes)>(n_samples, *m, {rows.at, stride, steps}, {scales, bias, bias_type, relu != 0}, y,
                                             slice0, slice1);
            });
        });
        return DONE;
    });
}
