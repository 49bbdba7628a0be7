// Copies of a picture's rows: what every channel of a tile has in common is found once.
#pragma once

#include "../scratch.h"
#include "geometry.h"

// Up to LANES neighbouring positions of one row under one kernel position. The panel's [to, to + LANES) is read from
// the channel's [from + lane * stride]; lanes that the mask does not have are padding.
struct Segment {
    int32_t mask[LANES];
    int64_t from, to;
    Ints lanes_of(Ints values) const { return values & load<Ints>(mask); }
};

struct Segments {
    const Geometry& g;
    int64_t n_samples;
    const float *x, *past;  // the whole input
    int64_t n = 0, lowest = 0, highest = 0;
    Scratch<Segment> at;

    Segments(const Geometry& geometry, int64_t samples, const float* input, int64_t most)
        : g(geometry),
          n_samples(samples),
          x(input),
          past(x + samples * g.in_channels * g.in_volume()),
          at(most) {}

    void clear() { n = lowest = highest = 0; }

    // The `count` positions from `o` on, which may lie behind the picture: then they are zeros.
    INLINED void add(const Coordinates& o, int64_t count, int64_t kd, int64_t kh, int64_t kw, int64_t to) {
        int64_t d = g.source(DEPTH, o.d, kd), h = g.source(HEIGHT, o.h, kh), w = g.source(WIDTH, o.w, kw);
        bool has_row = count > 0 && o.sample < n_samples && g.is_inside(DEPTH, d) && g.is_inside(HEIGHT, h) &&
                       w < g.size[WIDTH] && w + (count - 1) * g.stride[WIDTH] >= 0;
        const Ints lane = lanes(), column = lane * g.stride[WIDTH] + (int32_t)w;
        Segment& segment = at.at[n++];
        const Ints is_inside = (lane < (int32_t)(has_row ? count : 0)) & (column >= 0) & (column < g.size[WIDTH]);
        store(segment.mask, is_inside);
        segment.to = to;
        segment.from = has_row ? o.sample * g.in_channels * g.in_volume() + (d * g.size[HEIGHT] + h) * g.size[WIDTH] + w
                               : 0;
        lowest = smaller(lowest, segment.from);
        highest = larger(highest, segment.from + LANES * g.stride[WIDTH]);
    }

    // The segments [begin, end) of a channel. Each is written as a whole vector, past its end; the next one overwrites
    // that.
    void copy(int64_t channel, int64_t begin, int64_t end, float* to) const {
        const float* from = x + channel * g.in_volume();
        if (from + lowest < x || from + highest > past)
            return copy_carefully(from, begin, end, to);
        const Segment *segment = at.at + begin, *last = at.at + end;
        const int64_t stride = g.stride[WIDTH];
        if (stride == 1)
            for (; segment < last; segment++)
                store(to + segment->to, segment->lanes_of(load<Ints>(from + segment->from)));
        else
            for (; segment < last; segment++) {
                Floats values = stride == 2 ? every_second(from + segment->from) : every(stride, from + segment->from);
                store(to + segment->to, segment->lanes_of(same_bits<Ints>(values)));
            }
    }

    // Element by element, because a whole vector would be read from outside of the input.
    void copy_carefully(const float* from, int64_t begin, int64_t end, float* to) const {
        for (int64_t i = begin; i < end; i++) {
            const Segment& segment = at.at[i];
            for (int lane = 0; lane < LANES; lane++)
                to[segment.to + lane] = segment.mask[lane] ? from[segment.from + lane * g.stride[WIDTH]] : 0.0f;
        }
    }
};
