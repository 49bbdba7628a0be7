// Copies of a picture's rows: what every channel of a tile has in common is found once.
#pragma once

#include "../operands.h"
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
    const void* x;  // the whole input
    int32_t type;   // of it
    int64_t n_elements;
    int64_t n = 0, lowest = 0, highest = 0;
    Scratch<Segment> at;

    Segments(const Geometry& geometry, int64_t samples, const void* input, int32_t type_of_input, int64_t most)
        : g(geometry),
          n_samples(samples),
          x(input),
          type(type_of_input),
          n_elements(samples * g.in_channels * g.in_volume()),
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

    // Whether whole vectors of a channel, of which the first element is the `first` of x, are inside of it.
    bool is_inside(int64_t first) const { return first + lowest >= 0 && first + highest <= n_elements; }

    // The segments [begin, end) of a channel. Each is written as a whole vector, past its end; the next one overwrites
    // that.
    void copy(int64_t channel, int64_t begin, int64_t end, float* to) const {
        const int64_t first = channel * g.in_volume();
        with_operand_type(type, [&](auto of) INLINED {
            using Type = decltype(of);
            const auto* from = elements<Type>(x) + first;
            if (is_inside(first)) copy_whole<Type>(from, begin, end, to);
            else copy_carefully<Type>(from, begin, end, to);
        });
    }

    template <class Type>
    INLINED void copy_whole(const typename Type::Stored* from, int64_t begin, int64_t end, float* to) const {
        const Segment *segment = at.at + begin, *last = at.at + end;
        const int64_t stride = g.stride[WIDTH];
        auto put = [&](Floats values) INLINED { store(to + segment->to, segment->lanes_of(same_bits<Ints>(values))); };
        if (stride == 1)
            for (; segment < last; segment++) put(Type::load(from + segment->from));
        else
            for (; segment < last; segment++) put(every<Type>(stride, from + segment->from));
    }

    // For channels of which whole vectors would be read from outside of the input.
    template <class Type>
    void copy_carefully(const typename Type::Stored* from, int64_t begin, int64_t end, float* to) const {
        for (const Segment *segment = at.at + begin, *last = at.at + end; segment < last; segment++)
            store(to + segment->to, every_where<Type>(load<Ints>(segment->mask), g.stride[WIDTH], from + segment->from));
    }
};
