// The panels of a convolution: copies of its input in the order in which the product reads.
#pragma once

#include "layout.h"

// Up to LANES neighbouring positions of one row under one kernel position. The panel's [to, to + LANES) is read from
// the channel's [from + lane * stride]; lanes that the mask does not have are padding.
struct Segment {
    Ints mask;
    int64_t from, to;
};

struct ConvolutionInput {
    const Layout& layout;
    const Geometry& g;
    const float *x, *past;              // the whole input
    int64_t width, chunk, channel = 0;  // the first channel of the group
    int64_t n_readable_columns;
    int64_t n_segments = 0, lowest = 0, highest = 0;
    Scratch<Segment> segments;
    Scratch<float> floats;
    Scratch<int32_t> offsets;

    ConvolutionInput(const Layout& l, const float* input)
        : layout(l),
          g(l.copied),
          x(input),
          past(x + l.n_samples * g.in_channels * g.in_volume()),
          width(l.width),
          chunk(l.chunk),
          n_readable_columns(l.n_copies()),
          segments(g.kernel_volume() * l.extent()),
          floats(l.panel_size() + LANES),
          offsets(l.shared ? l.real.group_channels() * l.real.kernel_volume() : 0) {
        if (l.shared && offsets.at) find_offsets();
    }

    bool has_memory() const { return segments.at && floats.at && offsets.at; }

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
        for (int64_t c = 0; c < g.group_channels(); c++, to += g.kernel_volume() * layout.extent()) {
            const float* from = x + (channel + c) * g.in_volume();
            if (from + lowest < x || from + highest > past)
                copy_carefully(from, to);
            else if (g.stride[WIDTH] == 1)
                copy(from, to);
            else
                copy_strided(from, to);
        }
        return floats.at;
    }

    // Each segment is written as a whole vector, past its end; the next one overwrites that.
    void copy(const float* from, float* to) const {
        const Segment *segment = segments.at, *end = segment + n_segments;
        for (; segment < end; segment++)
            store(to + segment->to, load<Ints>(from + segment->from) & segment->mask);
    }

    void copy_strided(const float* from, float* to) const {
        int64_t stride = g.stride[WIDTH];
        const Segment *segment = segments.at, *end = segment + n_segments;
        for (; segment < end; segment++) {
            Floats values = stride == 2 ? every_second(from + segment->from) : every(stride, from + segment->from);
            store(to + segment->to, same_bits<Ints>(values) & segment->mask);
        }
    }

    // Element by element, because a whole vector would be read from outside of the input.
    void copy_carefully(const float* from, float* to) const {
        for (int64_t i = 0; i < n_segments; i++) {
            const Segment& segment = segments.at[i];
            for (int lane = 0; lane < LANES; lane++)
                to[segment.to + lane] = segment.mask[lane] ? from[segment.from + lane * g.stride[WIDTH]] : 0.0f;
        }
    }

    // The segments of n positions from s on, under every kernel position.
    void find_segments(int64_t s, int64_t n) {
        n_segments = lowest = highest = 0;
        int64_t to = 0;
        for (int64_t d = 0; d < g.kernel[DEPTH]; d++)
            for (int64_t h = 0; h < g.kernel[HEIGHT]; h++)
                for (int64_t w = 0; w < g.kernel[WIDTH]; w++, to += layout.extent()) {
                    Coordinates o(g, s);
                    for (int64_t i = 0, n_here; i < n; i += n_here, o.advance(g, n_here)) {
                        n_here = smaller(smaller(n - i, LANES), g.out[WIDTH] - o.w);
                        add_segment(o, n_here, d, h, w, to + i);
                    }
                }
    }

    void add_segment(const Coordinates& o, int64_t n, int64_t kd, int64_t kh, int64_t kw, int64_t to) {
        int64_t d = g.source(DEPTH, o.d, kd), h = g.source(HEIGHT, o.h, kh), w = g.source(WIDTH, o.w, kw);
        bool has_row = o.sample < layout.n_samples && g.is_inside(DEPTH, d) && g.is_inside(HEIGHT, h);
        const Ints lane = lanes(), at = lane * g.stride[WIDTH] + (int32_t)w;
        Segment& segment = segments.at[n_segments++];
        segment.mask = (lane < (int32_t)(has_row ? n : 0)) & (at >= 0) & (at < g.size[WIDTH]);
        segment.to = to;
        segment.from = has_row ? o.sample * g.in_channels * g.in_volume() + (d * g.size[HEIGHT] + h) * g.size[WIDTH] + w
                               : 0;
        lowest = smaller(lowest, segment.from);
        highest = larger(highest, segment.from + LANES * g.stride[WIDTH]);
    }
};
