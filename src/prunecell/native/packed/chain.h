// Linear layers one after the other, as one call: a lone layer is a chain of one.
//
// What passes from layer to layer lies in two buffers in turn, in the order in which the next one reads it.
#pragma once

#include "linear.h"
#include "links.h"
#include "sliced.h"

// The most features that pass from a layer to the next.
static int64_t most_between(const Chain& chain) {
    int64_t most = 0;
    for (int64_t i = 0; i + 1 < chain.n_links; i++) most = larger(most, chain.links[i].n_rows);
    return most;
}

// y [sample][feature] for 1 to MOST_SAMPLES samples x; the layers are sliced, and threads share the slices of each.
static int32_t chain_of_few(const Chain& chain, const Operand& x, int64_t n_samples, void* y, const Team* team) {
    const int64_t stride = most_between(chain) + 1, n_links = chain.n_links;
    const Scratch<float> between(n_links > 1 ? 2 * stride * n_samples : 0);
    const SamplesOf first(x, chain.links[0].n_columns, n_samples);
    if (!between.at || !first.copy.at) return NO_MEMORY;
    Samples from = first.samples;
    for (int64_t i = 0; i < n_links; i++) {
        const Link& link = chain.links[i];
        const bool is_last = i + 1 == n_links;
        float* buffer = between.at + i % 2 * stride * n_samples;
        const Results to = is_last ? Results{y, link.n_rows, chain.type} : Results{buffer, stride, FLOAT32};
        sliced_product(*static_cast<const Sliced*>(link.form), link.then(), from, n_samples, to, team);
        if (is_last) {
            link.finish(to, 0, link.n_rows, 0, n_samples);
            break;
        }
        for (int64_t s = 0; s < n_samples; s++) {
            round_floats(chain.type, buffer + s * stride, link.n_rows);
            buffer[s * stride + link.n_rows] = 0;
        }
        link.finish(chain.type, buffer, n_samples, link.n_rows, stride);
        from = {buffer, stride};
    }
    return DONE;
}

// The same for x of the type of the chain. Returns an Outcome.
EXPORT int32_t pc_chain_of_few(const Chain* chain, const void* x, int64_t feature_stride, int64_t sample_stride,
                               int64_t n_samples, void* y, const Team* team) {
    return chain_of_few(*chain, {x, feature_stride, sample_stride, chain->type}, n_samples, y, team);
}

// A chain of blocked layers, and what passes through it for many samples.
struct Passage {
    const Chain& chain;
    Operand x;
    int64_t n_samples;
    Results y;
    bool is_panel;
    int64_t most_rows = 0;  // of a row block

    Passage(const Chain& of, const Operand& from, int64_t samples, void* to)
        : chain(of),
          x(from),
          n_samples(samples),
          y{to, chain.links[chain.n_links - 1].n_rows, chain.type},
          is_panel(x.is_panel_of(TILE, n_samples)) {
        for (int64_t i = 0; i < chain.n_links; i++) most_rows = larger(most_rows, form(i).block_rows);
    }

    const Blocked& form(int64_t link) const { return *static_cast<const Blocked*>(chain.links[link].form); }
    int64_t n_columns() const { return chain.links[0].n_columns; }
    int64_t n_tiles() const { return (n_samples + TILE - 1) / TILE; }
    int64_t n_in_tile(int64_t tile) const { return smaller(TILE, n_samples - tile * TILE); }

    int64_t floats_of_panel() const { return is_panel ? 0 : n_columns() * TILE; }
    int64_t floats_between() const { return 2 * most_between(chain) * TILE; }

    // The panel of a tile's inputs, in `room` where it must be made.
    const float* panel(int64_t tile, float* room) const {
        if (is_panel) return elements<Float32>(x.at);
        fill_panel(x, tile * TILE, n_in_tile(tile), n_columns(), room);
        return room;
    }

    // The row blocks [b0, b1) of a layer, b0 < b1, for one tile, whose first panel is given.
    void layer(int64_t link, int64_t tile, const float* first, float* between, float* sums, int64_t b0, int64_t b1) const {
        const Link& of = chain.links[link];
        const int64_t size = floats_between() / 2, n = n_in_tile(tile);
        const float* from = link == 0 ? first : between + (link - 1) % 2 * size;
        float* panel = link + 1 == chain.n_links ? nullptr : between + link % 2 * size;
        const TileOutput to{panel, y, tile * TILE};
        blocked_tile(form(link), of.then(), from, n, to, sums, b0, b1);
        const int64_t row = form(link).first_row(b0), n_rows = form(link).end_row(b1 - 1) - row;
        if (panel) of.finish(chain.type, panel + row * TILE, n_rows, round_up(n, LANES), TILE);
        else of.finish(y, row, n_rows, tile * TILE, n);
    }
};

// The tiles [0, end), of which every thread computes some alone.
static int32_t tiles_apart(const Passage& of, int64_t end, const Team* team) {
    return share(team, end, [&](auto take) {
        const Scratch<float> room(of.floats_of_panel()), between(of.floats_between()), sums(of.most_rows * TILE);
        if (!room.at || !between.at || !sums.at) return NO_MEMORY;
        take([&](int64_t t0, int64_t t1) {
            for (int64_t tile = t0; tile < t1; tile++) {
                const float* first = of.panel(tile, room.at);
                for (int64_t i = 0; i < of.chain.n_links; i++)
                    of.layer(i, tile, first, between.at, sums.at, 0, of.form(i).n_row_blocks);
            }
        });
        return DONE;
    });
}

// One tile: the threads share the row blocks of each layer. Each makes the first panel for itself, which takes a third of
// the time of getting parts of it from the cache of another core.
static int32_t tile_together(const Passage& of, int64_t tile, float* between, const Team* team) {
    int32_t outcome = DONE;
    for (int64_t i = 0; i < of.chain.n_links && outcome == DONE; i++)
        outcome = share(team, of.form(i).n_row_blocks, [&](auto take) {
            const Scratch<float> room(i == 0 ? of.floats_of_panel() : 0), sums(of.most_rows * TILE);
            if (!room.at || !sums.at) return NO_MEMORY;
            const float* first = i == 0 ? of.panel(tile, room.at) : nullptr;
            take([&](int64_t b0, int64_t b1) { of.layer(i, tile, first, between, sums.at, b0, b1); });
            return DONE;
        });
    return outcome;
}

// y [sample][feature] for any number of samples x; the layers are blocked. Threads share whole tiles, and work together
// on each of those that are left.
static int32_t chain_of_many(const Chain& chain, const Operand& x, int64_t n_samples, void* y, const Team* team) {
    const Passage passage(chain, x, n_samples, y);
    const int64_t n_tiles = passage.n_tiles(), n_threads = team ? team->n_threads : 1;
    const int64_t n_apart = n_tiles / n_threads * n_threads;
    int32_t outcome = tiles_apart(passage, n_apart, team);
    if (outcome != DONE || n_apart == n_tiles) return outcome;
    const Scratch<float> between(passage.floats_between());
    if (!between.at) return NO_MEMORY;
    for (int64_t tile = n_apart; tile < n_tiles && outcome == DONE; tile++)
        outcome = tile_together(passage, tile, between.at, team);
    return outcome;
}

// The same for x of the type of the chain. Returns an Outcome.
EXPORT int32_t pc_chain_of_many(const Chain* chain, const void* x, int64_t feature_stride, int64_t sample_stride,
                                int64_t n_samples, void* y, const Team* team) {
    return chain_of_many(*chain, {x, feature_stride, sample_stride, chain->type}, n_samples, y, team);
}
