// Convolutions and pooling one after the other, and linear layers behind them, as one call.
//
// A few samples at a time go through all convolutions, so that what passes from one to the next stays in the second-level
// cache. Their results are the rows of features that the linear layers take.
#pragma once

#include "chain.h"

static int32_t convolve_samples(const Link& link, const float* x, int64_t n_samples, float* y) {
    const auto& m = *static_cast<const Blocked*>(link.form);
    const Panels panels(link.geometry(), Form::of(m.form));
    Tiles tiles(panels, n_samples, x);
    const Scratch<float> sums(floats_of_sums(m, panels));
    if (!tiles.has_memory() || !sums.at) return NO_MEMORY;
    convolve_tiles(m, tiles, link.then(), y, sums.at, 0, m.n_row_blocks, 0, panels.n_tiles(n_samples));
    return DONE;
}

// y [sample][channel][position] of some samples of x. `between` has two buffers of `size` floats, with
// room around them.
static int32_t pass_pictures(const Chain& chain, const float* x, int64_t n_samples, float* between, int64_t size,
                             float* y) {
    int32_t outcome = DONE;
    for (int64_t i = 0; i < chain.n_pictures && outcome == DONE; i++) {
        const Link& link = chain.links[i];
        float* to = i + 1 == chain.n_pictures ? y : between + i % 2 * size;
        outcome = link.kind == POOLING
                      ? pool(*static_cast<const Pooling*>(link.picture), x, n_samples * link.geometry().in_channels, to)
                      : convolve_samples(link, x, n_samples, to);
        const int64_t n = n_samples * link.n_outputs();
        link.finish(to, 1, n, n);
        x = to;
    }
    return outcome;
}

// The same for all samples, which threads share.
static int32_t all_pictures(const Chain& chain, const float* x, int64_t n_samples, float* y, const Team* team) {
    const int64_t n_inputs = chain.links[0].n_inputs(), n_outputs = chain.links[chain.n_pictures - 1].n_outputs();
    int64_t size = 0, room = 0;
    for (int64_t i = 0; i + 1 < chain.n_pictures; i++) {
        size = larger(size, chain.links[i].n_outputs() * chain.n_at_once);
        const Link& next = chain.links[i + 1];
        if (next.kind == POOLING) room = larger(room, round_up(static_cast<const Pooling*>(next.picture)->room(), LANES));
    }
    size = round_up(size, LANES) + room;
    return share(team, n_samples, [&](auto take) {
        const Scratch<float> between(room + 2 * size);
        int32_t outcome = between.at ? DONE : NO_MEMORY;
        take([&](int64_t s0, int64_t s1) {
            for (int64_t s = s0; s < s1 && outcome == DONE; s += chain.n_at_once)
                outcome = pass_pictures(chain, x + s * n_inputs, smaller(chain.n_at_once, s1 - s), between.at + room, size,
                                        y + s * n_outputs);
        });
        return outcome;
    });
}

// y for samples x (channels, positions; contiguous). The linear layers of the chain, if there are any, are sliced for a
// `few` samples, else blocked. Returns an Outcome.
EXPORT int32_t pc_chain_of_pictures(const Chain* chain, int32_t few, const float* x, int64_t n_samples, float* y,
                                    const Team* team) {
    const int64_t n_pictures = chain->n_pictures, n_linear = chain->n_links - n_pictures;
    if (n_linear == 0) return all_pictures(*chain, x, n_samples, y, team);
    const Chain linear{chain->links + n_pictures, n_linear, 0, 0};
    const int64_t n_inputs = chain->links[0].n_inputs(), n_features = chain->links[n_pictures - 1].n_outputs();
    const int64_t n_results = chain->links[chain->n_links - 1].n_rows;
    const int64_t n_together = few ? n_samples : smaller(n_samples, TILE * (team ? team->n_threads : 1));
    const Scratch<float> rows(n_together * n_features);
    if (!rows.at) return NO_MEMORY;
    int32_t outcome = DONE;
    for (int64_t s = 0; s < n_samples && outcome == DONE; s += n_together) {
        const int64_t n = smaller(n_together, n_samples - s);
        outcome = all_pictures(*chain, x + s * n_inputs, n, rows.at, team);
        if (outcome != DONE) return outcome;
        const auto kernel = few ? pc_chain_of_few : pc_chain_of_many;
        outcome = kernel(&linear, rows.at, 1, n_features, n, y + s * n_results, team);
    }
    return outcome;
}
