// The panels of a convolution: copies of its input in the order in which the product reads.
#pragma once

#include "layout.h"
#include "segments.h"

struct ConvolutionInput {
    const Layout& layout;
    const Geometry& g;
    int64_t width, chunk, channel = 0;  // the first channel of the group
    int64_t n_readable_columns;
    Segments segments;
    Scratch<float> floats;
    Scratch<int32_t> offsets;

    ConvolutionInput(const Layout& l, const void* input, int32_t type)
        : layout(l),
          g(l.copied),
          width(l.width),
          chunk(l.chunk),
          n_readable_columns(l.n_copies()),
          segments(g, l.n_samples, input, type, g.kernel_volume() * l.extent()),
          floats(l.panel_size() + LANES),
          offsets(l.shared ? l.real.group_channels() * l.real.kernel_volume() : 0) {
        if (l.shared && offsets.at) find_offsets();
    }

    bool has_memory() const { return segments.at.at && floats.at && offsets.at; }

    const int32_t* table() const { return layout.shared ? offsets.at : nullptr; }

    // In a shared layout all kernel positions of a channel read the same elements. A slice has so few channels that
    // these elements are still in the first-level cache when they are read again.
    int64_t columns_at_once() const {
        if (!layout.shared) return PANEL_FLOATS / width;
        int64_t read_of_a_channel = layout.read_by_a_block() / layout.real.group_channels();
        return layout.real.kernel_volume() * larger(1, Layout::FIRST_LEVEL / read_of_a_channel);
    }

    void find_offsets() {
        const Geometry& real = layout.real;
        int32_t* offset = offsets.at;
        for (int64_t c = 0; c < real.group_channels(); c++)
            for (int64_t d = 0; d < real.kernel[DEPTH]; d++)
                for (int64_t h = 0; h < real.kernel[HEIGHT]; h++)
                    for (int64_t w = 0; w < real.kernel[WIDTH]; w++) {
                        int64_t copy = layout.has_copy_per_column() ? c * g.kernel[WIDTH] + w : c;
                        *offset++ = copy * layout.extent() + layout.offset(d, h, w);
                    }
    }

    APART const float* panel(int64_t s, int64_t n) {
        find_segments(s, n + layout.beyond);
        float* to = floats.at;
        for (int64_t c = 0; c < g.group_channels(); c++, to += g.kernel_volume() * layout.extent())
            segments.copy(channel + c, 0, segments.n, to);
        return floats.at;
    }

    // The segments of n positions from s on, under every kernel position.
    void find_segments(int64_t s, int64_t n) {
        segments.clear();
        int64_t to = 0;
        for (int64_t d = 0; d < g.kernel[DEPTH]; d++)
            for (int64_t h = 0; h < g.kernel[HEIGHT]; h++)
                for (int64_t w = 0; w < g.kernel[WIDTH]; w++, to += layout.extent()) {
                    Coordinates o(g, s);
                    for (int64_t i = 0, n_here; i < n; i += n_here, o.advance(g, n_here)) {
                        n_here = smaller(smaller(n - i, LANES), g.out[WIDTH] - o.w);
                        segments.add(o, n_here, d, h, w, to + i);
                    }
                }
    }
};
