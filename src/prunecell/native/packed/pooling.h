// Pooling: the largest number or the mean under a kernel, channel by channel.
//
// A vector of neighbouring outputs is joined from whole vectors of inputs. What of those is padding a mask tells; it lies
// in other rows or planes, or in the room around the input.
#pragma once

#include "../convolution/geometry.h"
#include "../matrix.h"
#include "../operands.h"
#include "../scratch.h"

// structs.py has the same fields in the same order.
struct Pooling {
    Geometry g;       // as many input channels as output channels, two axes
    int32_t is_mean;  // else the largest
    int32_t of_real;  // a mean: of the elements under the kernel without the padding
    float divisor;    // a mean: of the sum, where it is not of_real

    // What is read before and behind the input, in floats.
    int64_t room() const {
        return g.padding[WIDTH] + int64_t{LANES} * larger(2, g.stride[WIDTH]) + g.kernel[WIDTH] * int64_t{g.dilation[WIDTH]};
    }
};

// As torch has it: NaN is larger than all.
struct Maximum {
    static constexpr float NOTHING = -__builtin_inff();
    INLINED static Floats join(Floats a, Floats b) { return (b > a) | (b != b) ? b : a; }
};

struct Sum {
    static constexpr float NOTHING = 0;
    INLINED static Floats join(Floats a, Floats b) { return a + b; }
};

// How many elements of the picture an output reads along an axis.
static int64_t n_real(const Geometry& g, int axis, int64_t o) {
    int64_t n = 0;
    for (int64_t k = 0; k < g.kernel[axis]; k++) n += g.is_inside(axis, g.source(axis, o, k));
    return n;
}

// What the sums of the outputs from o on of a row are divided by.
INLINE Floats divisors(const Pooling& p, int64_t row, int64_t o) {
    if (!p.of_real) return all(p.divisor);
    Floats n;
    for (int lane = 0; lane < LANES; lane++) n[lane] = static_cast<float>(larger(1, n_real(p.g, WIDTH, o + lane)));
    return n * static_cast<float>(n_real(p.g, HEIGHT, row));
}

// Which lanes of what the outputs of a row read are elements of the picture: [kernel column][output], as -1 or 0.
struct RealLanes {
    int64_t n_outputs;  // rounded up to whole vectors
    Scratch<int32_t> at;

    explicit RealLanes(const Geometry& g)
        : n_outputs(round_up(g.out[WIDTH], LANES)), at(n_outputs * g.kernel[WIDTH]) {
        for (int64_t k = 0; at.at && k < g.kernel[WIDTH]; k++)
            for (int64_t o = 0; o < n_outputs; o++)
                at.at[k * n_outputs + o] = -g.is_inside(WIDTH, g.source(WIDTH, o, k));
    }

    Floats of(int64_t k, int64_t o, Floats values, float otherwise) const {
        return load<Ints>(at.at + k * n_outputs + o) ? values : all(otherwise);
    }
};

// What the outputs of a row from o on read, joined. Their kernels begin at `from`, and have n_rows rows in the picture.
// STRIDE: that of the geometry, if it is 1 or 2, else 0.
template <class Join, int STRIDE>
INLINE Floats joined_under(const Geometry& g, const RealLanes& real, const float* from, int64_t n_rows, int64_t o) {
    const int64_t row = int64_t{g.dilation[HEIGHT]} * g.size[WIDTH], stride = g.stride[WIDTH];
    const int32_t n_columns = g.kernel[WIDTH], column = g.dilation[WIDTH];
    const bool has_padding = g.padding[WIDTH] > 0;
    Floats joined = all(Join::NOTHING);
    for (; n_rows > 0; n_rows--, from += row)
        for (int32_t k = 0; k < n_columns; k++) {
            const float* at = from + int64_t{k} * column;
            Floats values = STRIDE == 1 ? load<Floats>(at) : STRIDE == 2 ? every_second(at) : every<Float32>(stride, at);
            if (has_padding) values = real.of(k, o, values, Join::NOTHING);
            joined = Join::join(joined, values);
        }
    return joined;
}

template <class Join, int STRIDE>
static void pool_planes(const Pooling& p, const RealLanes& real, const float* x, int64_t n_planes, float* y) {
    const Geometry& g = p.g;
    const int64_t n_outputs = g.out[WIDTH], stride = g.stride[WIDTH], volume = g.in_volume();
    const float* end = y + n_planes * g.out_volume();
    for (int64_t plane = 0; plane < n_planes; plane++, x += volume)
        for (int64_t r = 0; r < g.out[HEIGHT]; r++, y += n_outputs) {
            int64_t first = 0;
            while (first < g.kernel[HEIGHT] && g.source(HEIGHT, r, first) < 0) first++;
            const int64_t n_rows = n_real(g, HEIGHT, r);
            const float* from = x + g.source(HEIGHT, r, first) * g.size[WIDTH] - g.padding[WIDTH];
            for (int64_t o = 0; o < n_outputs; o += LANES) {
                Floats joined = joined_under<Join, STRIDE>(g, real, from + o * stride, n_rows, o);
                if (p.is_mean) joined = joined / divisors(p, r, o);
                if (y + o + LANES <= end) store(y + o, joined);  // the next row overwrites what is too much
                else store_first(y + o, joined, static_cast<int>(smaller(LANES, n_outputs - o)));
            }
        }
}

// The same where the kernel is the whole plane.
template <class Join>
static void pool_whole_planes(const Pooling& p, const float* x, int64_t n_planes, float* y) {
    const int64_t n = p.g.in_volume();
    for (int64_t plane = 0; plane < n_planes; plane++, x += n) {
        Floats joined = all(Join::NOTHING);
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES) joined = Join::join(joined, load<Floats>(x + i));
        const Ints is_left = first_lanes(static_cast<int>(n - i));
        joined = Join::join(joined, is_left ? load<Floats>(x + i) : all(Join::NOTHING));
        Floats of = all(joined[0]);
        for (int lane = 1; lane < LANES; lane++) of = Join::join(of, all(joined[lane]));
        y[plane] = of[0] / (p.is_mean ? divisors(p, 0, 0)[0] : 1.0f);
    }
}

template <class Join>
static int32_t pool_by(const Pooling& p, const float* x, int64_t n_planes, float* y) {
    const Geometry& g = p.g;
    if (g.out_volume() == 1 && g.kernel_volume() == g.in_volume() && !g.padding[HEIGHT] && !g.padding[WIDTH]) {
        pool_whole_planes<Join>(p, x, n_planes, y);
        return DONE;
    }
    const RealLanes real(g);
    if (!real.at.at) return NO_MEMORY;
    if (g.stride[WIDTH] == 1) pool_planes<Join, 1>(p, real, x, n_planes, y);
    else if (g.stride[WIDTH] == 2) pool_planes<Join, 2>(p, real, x, n_planes, y);
    else pool_planes<Join, 0>(p, real, x, n_planes, y);
    return DONE;
}

// Planes, one after the other, of which y must be another place than x. Returns an Outcome.
static int32_t pool(const Pooling& p, const float* x, int64_t n_planes, float* y) {
    return p.is_mean ? pool_by<Sum>(p, x, n_planes, y) : pool_by<Maximum>(p, x, n_planes, y);
}
