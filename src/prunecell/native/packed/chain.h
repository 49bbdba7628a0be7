// Linear layers one after the other, as one call: a lone layer is a chain of one.
//
// What passes from layer to layer lies in two buffers in turn, in the order in which the next one reads it.
#pragma once

#include "linear.h"
#include "sliced.h"

// A layer of a chain. structs.py has the same fields in the same order.
struct Link {
    const void* form;  // a Sliced or a Blocked
    const float *scales, *bias;
    int32_t n_columns, n_rows;
    int32_t relu;
    Epilogue then() const { return {scales, bias, relu != 0}; }
};

// structs.py has the same fields in the same order.
struct Chain {
    const Link* links;
    int64_t n_links;
};

// The most features that pass from a layer to the next.
static int64_t most_between(const Chain& chain) {
    int64_t most = 0;
    for (int64_t i = 0; i + 1 < chain.n_links; i++) most = larger(most, chain.links[i].n_rows);
    return most;
}

// y for 1 to MOST_SAMPLES samples x, rows of features both; the layers are sliced. Returns an Outcome.
EXPORT int32_t pc_chain_of_few(const Chain* chain, float* x, int64_t n_samples, float* y) {
    const int64_t stride = most_between(*chain) + 1, n_links = chain->n_links;
    const Scratch<float> between(n_links > 1 ? 2 * stride * n_samples : 0);
    const int32_t n_columns = chain->links[0].n_columns;
    const SamplesOf first({x, 1, n_columns}, n_columns, n_samples);
    if (!between.at || !first.copy.at) return NO_MEMORY;
    Samples from = first.samples;
    for (int64_t i = 0; i < n_links; i++) {
        const Link& link = chain->links[i];
        float* buffer = between.at + i % 2 * stride * n_samples;
        const Activations to = i + 1 == n_links ? Activations{y, 1, link.n_rows} : Activations{buffer, 1, stride};
        const auto& form = *static_cast<const Sliced*>(link.form);
        sliced_product(form, link.then(), from, n_samples, to, 0, form.n_steps + 1);
        if (i + 1 == n_links) break;
        for (int64_t s = 0; s < n_samples; s++) buffer[s * stride + link.n_rows] = 0;
        from = {buffer, stride};
    }
    return DONE;
}

// The tiles [t0, t1) of y for any number of samples x, of which one of the strides is 1. Returns an Outcome.
static int32_t chain_of_tiles(const Chain& chain, const Activations& x, int64_t n_samples, const Activations& y, int64_t t0,
                              int64_t t1) {
    const bool is_panel = x.feature_major() && x.feature_stride == TILE && n_samples == TILE;
    const int64_t n_links = chain.n_links, size = most_between(chain) * TILE;
    const int32_t n_columns = chain.links[0].n_columns;
    int64_t most_rows = 0;
    for (int64_t i = 0; i < n_links; i++)
        most_rows = larger(most_rows, static_cast<const Blocked*>(chain.links[i].form)->block_rows);
    const Scratch<float> first(is_panel ? 0 : int64_t{n_columns} * TILE), between(2 * size), sums(most_rows * TILE);
    if (!first.at || !between.at || !sums.at) return NO_MEMORY;
    for (int64_t s = t0 * TILE, end = smaller(n_samples, t1 * TILE); s < end; s += TILE) {
        const int64_t n = smaller(TILE, end - s);
        const float* from = is_panel ? x.at : first.at;
        if (!is_panel) fill_panel({x.at + s * x.sample_stride, x.feature_stride, x.sample_stride}, n, 0, n_columns, first.at);
        for (int64_t i = 0; i < n_links; i++) {
            const Link& link = chain.links[i];
            float* panel = i + 1 == n_links ? nullptr : between.at + i % 2 * size;
            const TileOutput to{panel, {y.at + s * y.sample_stride, y.feature_stride, y.sample_stride}};
            const auto& form = *static_cast<const Blocked*>(link.form);
            blocked_tile(form, link.then(), from, n, to, sums.at, 0, form.n_row_blocks);
            from = panel;
        }
    }
    return DONE;
}

// The same for x and y that are rows of features; the layers are blocked.
EXPORT int32_t pc_chain_of_many(const Chain* chain, float* x, int64_t n_samples, float* y, int64_t t0, int64_t t1) {
    const int32_t n_features = chain->links[0].n_columns, n_results = chain->links[chain->n_links - 1].n_rows;
    return chain_of_tiles(*chain, {x, 1, n_features}, n_samples, {y, 1, n_results}, t0, t1);
}

// The same for one layer, whatever the order of x and y is.
EXPORT int32_t pc_blocked_tiles(const Blocked* m, const float* scales, const float* bias, int32_t relu, float* x,
                                int64_t x_feature_stride, int64_t x_sample_stride, int64_t n_samples, float* y,
                                int64_t y_feature_stride, int64_t y_sample_stride, int64_t t0, int64_t t1) {
    const Link link{m, scales, bias, m->n_columns, m->n_rows, relu};
    return chain_of_tiles({&link, 1}, {x, x_feature_stride, x_sample_stride}, n_samples,
                          {y, y_feature_stride, y_sample_stride}, t0, t1);
}
