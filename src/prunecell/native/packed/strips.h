// Copies of a picture into the cells of a panel: what every channel of a tile has in common is found once.
//
// A cell consists of parts. The lanes of a part are equally far apart in the picture: they are one row of it, or several
// rows where outputs are as wide as inputs. Cells one after the other whose parts have the same masks and are equally
// far apart make strips, so that little is left to do for every channel.
#pragma once

#include "../convolution/geometry.h"
#include "../operands.h"
#include "../scratch.h"

// A part of n cells. Lane i of the k-th is read from the channel's [from + k * from_step + i * stride], and lies in the
// panel at [to + k * to_step + i]. Lanes that the mask does not have become zero, or keep what an earlier part gave them.
struct Strip {
    int32_t mask[LANES];
    int64_t from, to, from_step, to_step;
    int32_t n;
    bool is_first_part;
};

struct Strips {
    const Geometry& g;
    int64_t n_samples;
    const void* x;  // the whole input
    int32_t type;   // of it
    int64_t n_elements;
    int64_t n = 0, lowest = 0, highest = 0;
    Scratch<Strip> at;

    Strips(const Geometry& geometry, int64_t samples, const void* input, int32_t type_of_input, int64_t most)
        : g(geometry),
          n_samples(samples),
          x(input),
          type(type_of_input),
          n_elements(samples * g.in_channels * g.in_volume()),
          at(most) {}

    // ---- finding them ------------------------------------------------------------------------------------------------

    struct Part {
        Ints mask;
        int64_t from, to;
        bool is_empty;
    };
    Part parts[LANES];
    int n_parts = 0, n_before = 0;  // of this cell, and of the one before, which may become longer

    void clear() { n = lowest = highest = n_before = 0; }

    // The next cell begins other strips.
    void interrupt() { n_before = 0; }

    // Begins a cell, or two that are read together.
    void begin_cell() { n_parts = 0; }

    // The lanes [lane, lane + count) of the cell at `to` are the positions from o on, which may lie behind the picture:
    // then they are zeros.
    INLINED void add(const Coordinates& o, int64_t lane, int64_t count, int64_t kd, int64_t kh, int64_t kw, int64_t to) {
        const int64_t stride = g.stride[WIDTH];
        const int64_t d = g.source(DEPTH, o.d, kd), h = g.source(HEIGHT, o.h, kh), w = g.source(WIDTH, o.w, kw);
        const bool has_row = count > 0 && o.sample < n_samples && g.is_inside(DEPTH, d) && g.is_inside(HEIGHT, h) &&
                             w < g.size[WIDTH] && w + (count - 1) * stride >= 0;
        Part part{{}, 0, to, !has_row};
        if (has_row) {
            const Ints at = lanes() - (int32_t)lane, column = at * (int32_t)stride + (int32_t)w;
            part.mask = (at >= 0) & (at < (int32_t)count) & (column >= 0) & (column < g.size[WIDTH]);
            part.from = o.sample * g.in_channels * g.in_volume() + (d * g.size[HEIGHT] + h) * g.size[WIDTH] + w -
                        lane * stride;
        }
        Part* last = parts + n_parts - 1;
        if (n_parts == 0 || last->to != to || !(part.is_empty || last->is_empty || part.from == last->from)) {
            parts[n_parts++] = part;
        } else if (!part.is_empty) {
            last->mask |= part.mask, last->from = part.from, last->is_empty = false;
        }
    }

    void end_cell() {
        Strip* strips = at.at + n - n_parts;
        bool goes_on = n_parts == n_before;
        for (int i = 0; goes_on && i < n_parts; i++) goes_on = is_next(strips[i], parts[i]);
        for (int i = 0; i < n_parts; i++) {
            const Part& part = parts[i];
            if (goes_on) {
                Strip& strip = strips[i];
                if (strip.n == 1) strip.from_step = part.from - strip.from, strip.to_step = part.to - strip.to;
                strip.n++;
            } else {
                Strip& strip = at.at[n++];
                store(strip.mask, part.mask);
                strip.from = part.from, strip.to = part.to, strip.from_step = strip.to_step = 0, strip.n = 1;
                strip.is_first_part = i == 0 || parts[i - 1].to != part.to;
            }
            lowest = smaller(lowest, part.from);
            highest = larger(highest, part.from + LANES * g.stride[WIDTH]);
        }
        n_before = n_parts;
    }

    static bool is_next(const Strip& strip, const Part& part) {
        if (memcmp(strip.mask, &part.mask, sizeof(part.mask))) return false;
        return strip.n == 1 || (part.from == strip.from + strip.n * strip.from_step &&
                                part.to == strip.to + strip.n * strip.to_step);
    }

    // ---- copying -----------------------------------------------------------------------------------------------------

    // Whether all that the strips of a channel read, masks aside, is part of the input.
    bool is_inside(int64_t channel) const {
        const int64_t first = channel * g.in_volume();
        return first + lowest >= 0 && first + highest <= n_elements;
    }

    // The strips [begin, end) of some channels, whose panels are so many floats apart.
    void copy(int64_t channel, int64_t n_channels, int64_t begin, int64_t end, float* to, int64_t floats) const {
        with_operand_type(type, [&](auto of) INLINED {
            using Type = decltype(of);
            using Stored = typename Type::Stored;
            const int64_t stride = g.stride[WIDTH];
            auto careful = [=](const Stored* at, Ints mask) INLINED { return every_where<Type>(mask, stride, at); };
            auto neighbours = [](const Stored* at, Ints mask) INLINED { return same_bits<Ints>(Type::load(at)) & mask; };
            auto seconds = [](const Stored* at, Ints mask) INLINED { return same_bits<Ints>(every<Type>(2, at)) & mask; };
            auto others = [=](const Stored* at, Ints mask) INLINED {
                return same_bits<Ints>(every<Type>(stride, at)) & mask;
            };
            const Stored* from = elements<Type>(x) + channel * g.in_volume();
            for (; n_channels > 0; n_channels--, channel++, from += g.in_volume(), to += floats)
                if (!is_inside(channel)) copy_by<Type>(from, begin, end, to, careful);
                else if (stride == 1) copy_by<Type>(from, begin, end, to, neighbours);
                else if (stride == 2) copy_by<Type>(from, begin, end, to, seconds);
                else copy_by<Type>(from, begin, end, to, others);
        });
    }

    template <class Type, class Read>
    INLINED void copy_by(const typename Type::Stored* from, int64_t begin, int64_t end, float* to, Read read) const {
        for (const Strip *strip = at.at + begin, *last = at.at + end; strip < last; strip++) {
            const Ints mask = load<Ints>(strip->mask);
            const auto* source = from + strip->from;
            float* cell = to + strip->to;
            if (strip->is_first_part)
                for (int k = strip->n; k > 0; k--, source += strip->from_step, cell += strip->to_step)
                    store(cell, read(source, mask));
            else
                for (int k = strip->n; k > 0; k--, source += strip->from_step, cell += strip->to_step)
                    store(cell, load<Ints>(cell) | read(source, mask));
        }
    }

    // The same where two cells are read together, which are neighbours in the input: the first gets the even elements of
    // both, the second the odd ones.
    void copy_in_turn(int64_t channel, int64_t n_channels, float* to, int64_t floats) const {
        with_operand_type(type, [&](auto of) INLINED {
            using Type = decltype(of);
            using Stored = typename Type::Stored;
            auto careful = [](const Stored* at, Ints mask) INLINED { return every_where<Type>(mask, 1, at); };
            auto neighbours = [](const Stored* at, Ints mask) INLINED { return same_bits<Ints>(Type::load(at)) & mask; };
            const Stored* from = elements<Type>(x) + channel * g.in_volume();
            for (; n_channels > 0; n_channels--, channel++, from += g.in_volume(), to += floats)
                if (is_inside(channel)) copy_in_turn_by<Type>(from, to, neighbours);
                else copy_in_turn_by<Type>(from, to, careful);
        });
    }

    template <class Type, class Read>
    INLINED void copy_in_turn_by(const typename Type::Stored* from, float* to, Read read) const {
        for (const Strip *pair = at.at, *last = at.at + n; pair < last; pair += 2) {
            const Ints mask = load<Ints>(pair[0].mask), other_mask = load<Ints>(pair[1].mask);
            const auto *source = from + pair[0].from, *other_source = from + pair[1].from;
            float *cell = to + pair[0].to, *other_cell = to + pair[1].to;
            for (int k = pair->n; k > 0; k--) {
                const auto a = same_bits<Floats>(read(source, mask)), b = same_bits<Floats>(read(other_source, other_mask));
                store(cell, evens(a, b)), store(other_cell, odds(a, b));
                source += pair[0].from_step, other_source += pair[1].from_step;
                cell += pair[0].to_step, other_cell += pair[1].to_step;
            }
        }
    }
};
