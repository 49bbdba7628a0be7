// Convolutions: a blocked matrix times panels that are copied just before their use.
#pragma once

#include "../team.h"
#include "panels.h"

// The form of the panels that is fastest for a convolution of so many samples with a matrix of so many entries.
EXPORT int32_t pc_convolution_form(const Geometry* geometry, int64_t n_samples, int64_t n_entries) {
    return best_form(*geometry, n_samples, n_entries).number();
}

// Packs the matrix of a convolution for panels of a form, into row blocks of at most so many rows. It then fits
// inputs of other sizes whose form is the same. Returns an Outcome or a WRONG.
EXPORT int32_t pc_block_convolution(const Matrix* m, const Geometry* geometry, int32_t form, int32_t block_rows,
                                    Packed* packed) {
    const Panels panels(*geometry, Form::of(form));
    const int64_t n_columns = panels.parts_of_block() * panels.columns_of_part();
    const Scratch<uint16_t> offsets(n_columns);
    if (!offsets.at) return NO_MEMORY;
    panels.find_offsets(offsets.at);
    const int32_t outcome =
        pack_blocked(*m, geometry->group_rows(), block_rows, static_cast<int32_t>(n_columns), offsets.at, packed);
    if (outcome != DONE) return outcome;
    static_cast<Blocked*>(packed->at)->form = form;
    return DONE;
}

// The sums of a tile stay in the second-level cache: so many floats.
constexpr int64_t MOST_SUMS = 1 << 17;

// The row blocks from b0 on, up to b1, whose rows share panels: of one group, with not too many sums.
static int32_t end_of_sharing(const Blocked& m, int32_t b0, int32_t b1, int64_t tile_vectors) {
    const int32_t first = m.first_row(b0), group = first / m.group_rows;
    int32_t end = b0 + 1;
    while (end < b1 && m.first_row(end) / m.group_rows == group &&
           (m.end_row(end) - first) * tile_vectors * LANES <= MOST_SUMS)
        end++;
    return end;
}

// The room that they take, for row blocks that share panels.
static int64_t floats_of_sums(const Blocked& m, const Panels& panels) {
    const int64_t of_row = panels.form.tile_vectors() * LANES;
    return of_row * smaller(m.group_rows, larger(m.block_rows, MOST_SUMS / of_row));
}

// The row blocks [b0, b1) of the tiles [t0, t1).
static void convolve_tiles(const Blocked& m, Tiles& tiles, const Epilogue& then, void* y, float* sums, int32_t b0,
                           int32_t b1, int64_t t0, int64_t t1) {
    const Panels& panels = tiles.panels;
    auto* floats = static_cast<float*>(y);  // if it is of such
    const int64_t parts_of_block = panels.parts_of_block();
    for (int32_t begin = b0, end; begin < b1; begin = end) {
        end = end_of_sharing(m, begin, b1, panels.form.tile_vectors());
        const int32_t row = m.first_row(begin), n_rows = m.end_row(end - 1) - row;
        const int64_t channel = int64_t{row} / m.group_rows * panels.g.group_channels();
        for (int64_t t = t0; t < t1; t++) {
            tiles.choose(t);
            const bool is_direct = tiles.is_direct_of_floats();
            const int64_t row_floats = int64_t{tiles.n_vectors} * LANES;
            const BlockProduct product = tiles.product();
            const Places places = is_direct ? tiles.places : Places::in_a_row(tiles.n_vectors, row_floats);
            for (int32_t b = 0; b < m.n_column_blocks; b++) {
                const int64_t part = b * parts_of_block;
                const float* panel = tiles.panel_of(channel, part, smaller(part + parts_of_block, panels.n_parts()));
                for (int32_t i = begin; i < end; i++) {
                    const int32_t first = m.first_row(i);
                    float* at = sums + (first - row) * row_floats;
                    const Target target = is_direct ? Target{floats + tiles.output(first), panels.g.out_volume(), places}
                                                    : Target{at, row_floats, places};
                    const bool is_last = b == m.n_column_blocks - 1;
                    const Step step{reinterpret_cast<const char*>(panel), at, first, b == 0, is_last, tiles.plane()};
                    product(m.blocks[int64_t{i} * m.n_column_blocks + b], step, then, target);
                }
            }
            if (!is_direct) tiles.store_sums(sums, row, n_rows, y);
        }
    }
}

// y = convolution of x (samples, channels, depth, height, width; contiguous) + bias, then max(0, .) where asked, both of a
// type. Threads share whole tiles, and the row blocks of those that are left. Returns an Outcome.
EXPORT int32_t pc_blocked_convolution(const Blocked* m, const Geometry* geometry, const float* scales, const void* bias,
                                      int32_t bias_type, int32_t relu, int32_t type, const void* x, void* y,
                                      int64_t n_samples, const Team* team) {
    const Panels panels(*geometry, Form::of(m->form));
    const Epilogue then{scales, bias, bias_type, relu != 0};
    const int64_t n_tiles = panels.n_tiles(n_samples), n_threads = team ? team->n_threads : 1;
    const int64_t n_apart = n_tiles / n_threads * n_threads, n_blocks = m->n_row_blocks;
    auto shared = [&](int64_t n_parts, auto task) {
        return share(team, n_parts, [&](auto take) {
            Tiles tiles(panels, n_samples, x, type);
            const Scratch<float> sums(floats_of_sums(*m, panels));
            if (!tiles.has_memory() || !sums.at) return NO_MEMORY;
            take([&](int64_t begin, int64_t end) { task(begin, end, tiles, sums.at); });
            return DONE;
        });
    };
    const int32_t outcome = shared(n_apart, [&](int64_t t0, int64_t t1, Tiles& tiles, float* sums) {
        convolve_tiles(*m, tiles, then, y, sums, 0, n_blocks, t0, t1);
    });
    if (outcome != DONE || n_apart == n_tiles) return outcome;
    return shared(n_blocks, [&](int64_t b0, int64_t b1, Tiles& tiles, float* sums) {
        convolve_tiles(*m, tiles, then, y, sums, b0, b1, n_apart, n_tiles);
    });
}
