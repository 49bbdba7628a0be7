// The geometry of a convolution: sizes, and where its outputs and what they read lie.
#pragma once

#include "../vectors.h"

enum Axis { DEPTH, HEIGHT, WIDTH, AXES };

// A convolution of one to three axes; missing axes come first, with size 1. The matrix has a row per output channel and
// a column per (input channel of the group, kernel position). structs.py has the same fields in the same order.
struct Geometry {
    int32_t groups, in_channels, out_channels;
    int32_t size[AXES], out[AXES], kernel[AXES], stride[AXES], padding[AXES], dilation[AXES];

    int64_t in_volume() const { return (int64_t)size[DEPTH] * size[HEIGHT] * size[WIDTH]; }
    int64_t out_volume() const { return (int64_t)out[DEPTH] * out[HEIGHT] * out[WIDTH]; }
    int64_t kernel_volume() const { return (int64_t)kernel[DEPTH] * kernel[HEIGHT] * kernel[WIDTH]; }
    int32_t group_rows() const { return out_channels / groups; }
    int32_t group_channels() const { return in_channels / groups; }
    bool has_unit_strides() const { return stride[DEPTH] == 1 && stride[HEIGHT] == 1 && stride[WIDTH] == 1; }

    // The number of an output within its sample.
    int64_t position(int64_t d, int64_t h, int64_t w) const { return (d * out[HEIGHT] + h) * out[WIDTH] + w; }

    // The element that output o of an axis reads under kernel element k; it may lie in the padding.
    int64_t source(int axis, int64_t o, int64_t k) const {
        return o * stride[axis] + k * dilation[axis] - padding[axis];
    }
    bool is_inside(int axis, int64_t i) const { return 0 <= i && i < size[axis]; }
};

// The sample, plane, row and column of a position; positions are numbered through all samples.
struct Coordinates {
    int64_t sample = 0, d = 0, h = 0, w = 0;
    Coordinates() = default;
    Coordinates(const Geometry& g, int64_t position) {
        w = position % g.out[WIDTH], position /= g.out[WIDTH];
        h = position % g.out[HEIGHT], position /= g.out[HEIGHT];
        d = position % g.out[DEPTH], sample = position / g.out[DEPTH];
    }

    // Goes on by n positions, which end within the row or at its end.
    void advance(const Geometry& g, int64_t n) {
        if ((w += n) < g.out[WIDTH]) return;
        w = 0;
        if (++h < g.out[HEIGHT]) return;
        h = 0;
        if (++d < g.out[DEPTH]) return;
        d = 0, sample++;
    }
};

// The same 1x1 convolution with all positions in one row, because longer segments can be copied at once then.
static Geometry as_one_row(Geometry g) {
    if (g.kernel_volume() != 1 || !g.has_unit_strides()) return g;
    if (g.padding[DEPTH] || g.padding[HEIGHT] || g.padding[WIDTH] || g.in_volume() > INT32_MAX) return g;
    g.out[WIDTH] = g.size[WIDTH] = g.in_volume();
    g.out[DEPTH] = g.size[DEPTH] = g.out[HEIGHT] = g.size[HEIGHT] = 1;
    return g;
}

// A convolution whose outputs are the padded input: its kernel has size 1 along the depth, the height and, if it is
// `wide`, the width. Two neighbouring rows share the padding between them: it ends one and begins the other. Where the
// width is not padded, rows are made as long as whole vectors.
static Geometry as_padding(Geometry g, bool wide) {
    for (int axis = 0; axis < (wide ? AXES : WIDTH); axis++) {
        int64_t end = g.out[axis] + (g.kernel[axis] - 1) * (int64_t)g.dilation[axis];  // of what is read
        int64_t used = larger(0, smaller(g.size[axis], end - g.padding[axis]));
        g.out[axis] = larger(g.out[axis], larger(g.padding[axis] + used, end - g.padding[axis]));
        g.kernel[axis] = g.dilation[axis] = 1;
    }
    if (!wide) g.out[WIDTH] = round_up(g.out[WIDTH], LANES);
    return g;
}
