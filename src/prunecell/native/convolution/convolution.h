// Convolutions.
#pragma once

#include "../team.h"
#include "input.h"

struct ConvolutionOutput {
    const Layout& layout;
    void* y;
    int32_t type;

    int64_t row_stride() const { return layout.real.out_volume(); }

    // Where an output of a channel is in y.
    int64_t at(int32_t row, const Coordinates& o) const {
        const Geometry& g = layout.real;
        return (o.sample * g.out_channels + row) * g.out_volume() + g.position(o.d, o.h, o.w);
    }

    float* destination(int32_t row, int64_t s, int64_t n) const {
        const bool in_one_sample = s % row_stride() + n <= row_stride();
        if (layout.shared || !in_one_sample || type != FLOAT32) return nullptr;
        return elements<Float32>(y) + at(row, Coordinates(layout.real, s));
    }

    // Copies the spans of real outputs and leaves out the padding between them. Each channel gets all its spans before
    // the next, because these lie together in the output.
    void store_tile(const float* tile, int32_t row, int64_t n_rows, int64_t s, int64_t n) const {
        struct Span {
            int64_t from, n, to;  // of the first channel
        } spans[BLOCK];
        int n_spans = 0;
        const Geometry& g = layout.real;
        for (int64_t i = 0, n_here; i < n; i += n_here) {
            Coordinates o(layout.copied, s + i);
            n_here = smaller(n - i, layout.copied.out[WIDTH] - o.w);
            int64_t n_real = smaller(n_here, g.out[WIDTH] - o.w);
            if (n_real > 0 && o.d < g.out[DEPTH] && o.h < g.out[HEIGHT]) spans[n_spans++] = {i, n_real, at(row, o)};
        }
        with_operand_type(type, [&](auto of) {
            using Type = decltype(of);
            auto* to = elements<Type>(y);
            for (int64_t r = 0; r < n_rows; r++, to += row_stride())
                for (const Span* span = spans; span < spans + n_spans; span++)
                    copy_from_floats<Type>(tile + r * BLOCK + span->from, span->n, to + span->to);
        });
    }
};

// Some output channels of some positions.
static int32_t convolve(const Matrix& m, const Geometry& g, int32_t r0, int32_t r1, int64_t n0, int64_t n1,
                        ConvolutionInput& input, const Epilogue& then, const ConvolutionOutput& output) {
    int32_t outcome = DONE;
    const int32_t group_rows = g.group_rows();
    for (int32_t row = r0, end; row < r1 && outcome == DONE; row = end) {
        const int32_t group = row / group_rows;
        end = smaller(r1, (group + 1) * group_rows);
        input.channel = group * g.group_channels();
        outcome = product(m, row, end, n0, n1, input, then, output);
    }
    return outcome;
}

// y = convolution of x (samples, channels, depth, height, width; contiguous) + bias, then max(0, .) where asked, both of a
// type. Threads share chunks of positions or, where there are fewer, the output channels. Returns an Outcome or a WRONG:
// then y is not to be used.
EXPORT int32_t pc_convolution(const Matrix* m, const void* bias, int32_t bias_type, int32_t relu,
                              const Geometry* geometry, int32_t type, const void* x, void* y, int64_t n_samples,
                              const Team* team) {
    if (m->n_columns == 0 && m->n_entries > 0) return wrong_indices(*m);
    const Layout layout = best_layout(as_one_row(*geometry), n_samples, *m);
    const Epilogue then{m->scales, bias, bias_type, relu != 0};
    const int64_t n = layout.n_positions, n_chunks = (n + layout.chunk - 1) / layout.chunk;
    const int64_t n_threads = team ? team->n_threads : 1;
    const bool by_chunks = n_chunks >= n_threads;
    auto first_of = [&](int64_t i) { return smaller(n, n_chunks * i / n_threads * layout.chunk); };  // of n_threads shares
    return share(team, by_chunks ? n_threads : m->n_rows, [&](auto take) {
        ConvolutionInput input(layout, x, type);
        int32_t outcome = input.has_memory() ? DONE : NO_MEMORY;
        take([&](int64_t begin, int64_t end) {
            const int64_t r0 = by_chunks ? 0 : begin, r1 = by_chunks ? m->n_rows : end;
            const int64_t n0 = by_chunks ? first_of(begin) : 0, n1 = by_chunks ? first_of(end) : n;
            if (outcome == DONE)
                outcome = convolve(*m, *geometry, r0, r1, n0, n1, input, then, ConvolutionOutput{layout, y, type});
        });
        return outcome;
    });
}
