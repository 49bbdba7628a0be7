// How the panels of a convolution are laid out, and which layout is fastest.
#pragma once

#include "../product.h"
#include "geometry.h"

// A layout is plain or shared.
//
// Plain: every (channel, kernel position) has its own copy of what the positions of a block read, at a cache line.
//
// Shared: fewer copies of the padded input, each a chunk of many blocks long; a kernel position is an offset into them.
// The product computes as many positions as the padded input has elements, also those that are no outputs. Either every
// (channel, kernel column) has a copy, whose rows begin at a cache line; or every channel has one, which is read across
// cache lines: for few channels, so that what a block reads fits into the second-level cache.
struct Layout {
    Geometry real;
    Geometry copied;                 // whose outputs are what is copied and numbered: `real`, or its as_padding
    bool shared;
    int64_t n_samples, n_positions;  // positions that are computed
    int64_t width, chunk;            // positions in a block and in a panel
    int64_t beyond = 0;              // how far behind its position the farthest kernel position reads

    Layout(const Geometry& g, int64_t samples, int64_t block)
        : real(g),
          copied(g),
          shared(false),
          n_samples(samples),
          n_positions(samples * g.out_volume()),
          width(block),
          chunk(block) {}

    Layout(const Geometry& g, const Geometry& padded, int64_t samples, int64_t block)
        : real(g), copied(padded), shared(true), n_samples(samples), width(block), chunk(block) {
        n_positions = (samples - 1) * padded.out_volume() + 1 +
                      padded.position(g.out[DEPTH] - 1, g.out[HEIGHT] - 1, g.out[WIDTH] - 1);
        beyond = offset(g.kernel[DEPTH] - 1, g.kernel[HEIGHT] - 1, g.kernel[WIDTH] - 1);
        int64_t n_blocks = (PANEL_FLOATS / n_copies() - beyond) / block;
        chunk = block * larger(1, smaller(n_blocks, (n_positions + block - 1) / block));
    }

    // Where a kernel position reads in a shared copy.
    int64_t offset(int64_t kd, int64_t kh, int64_t kw) const {
        int64_t w = has_copy_per_column() ? 0 : kw * real.dilation[WIDTH];
        return copied.position(kd * real.dilation[DEPTH], kh * real.dilation[HEIGHT], w);
    }

    bool has_copy_per_column() const { return copied.kernel[WIDTH] == real.kernel[WIDTH]; }
    int64_t n_copies() const { return real.group_channels() * copied.kernel_volume(); }
    int64_t extent() const { return chunk + beyond; }  // floats of a copy
    int64_t panel_size() const { return n_copies() * extent(); }
    int64_t read_by_a_block() const { return n_copies() * (width + beyond); }

    // About how long a group with so many entries takes, in units of copying 16 floats.
    //
    // Copies are made in segments of a row, of which the last may be short; segments are found once for all channels.
    // An entry times 64 positions takes longer where it reads the second-level cache, and where vectors lie across
    // cache lines, as every second vector of 8 lanes does and every vector of 16.
    double cost(int64_t n_entries) const {
        double whole_segments = (double)round_up(copied.out[WIDTH], LANES) / copied.out[WIDTH];
        double copy = whole_segments * (1 + 6.0 / real.group_channels());
        double entry = !shared                ? 1.6 + smaller(read_by_a_block(), LARGE) / (4.0 * LARGE)
                       : has_copy_per_column() ? 1.3
                       : LANES > 8             ? 1.75
                                               : 1.4;
        return (double)n_positions / chunk * panel_size() / 16 * copy + (double)n_positions / 64 * n_entries * entry;
    }

    // In floats: three quarters of a first-level cache of 32 KiB, parts of the second and of the third level.
    static constexpr int64_t FIRST_LEVEL = 6144, SMALL = 1 << 15, LARGE = 1 << 18;
};

static Layout best_layout(const Geometry& g, int64_t samples, const Matrix& m) {
    int64_t n_entries = m.n_entries / g.groups;
    Layout best(g, samples, usual_width(samples * g.out_volume()));
    auto consider = [&](const Layout& other, int64_t largest) {
        if (other.read_by_a_block() <= largest && other.cost(n_entries) < best.cost(n_entries)) best = other;
    };
    if (g.in_channels == 0 || g.kernel_volume() == 1 || g.stride[DEPTH] != 1 || g.stride[HEIGHT] != 1) return best;
    consider(Layout(g, as_padding(g, false), samples, USUAL_BLOCK), Layout::LARGE);
    consider(Layout(g, as_padding(g, false), samples, BLOCK), Layout::LARGE / 4);
    if (g.stride[WIDTH] == 1) consider(Layout(g, as_padding(g, true), samples, BLOCK), Layout::SMALL);
    return best;
}
