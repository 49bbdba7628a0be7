// Convolutions.
#pragma once

#include "input.h"

struct ConvolutionOutput {
    const Layout& layout;
    float* y;

    int64_t row_stride() const { return layout.real.out_volume(); }

    float* at(int32_t row, const Coordinates& o) const {
        const Geometry& g = layout.real;
        return y + (o.sample * g.out_channels + row) * g.out_volume() + g.position(o.d, o.h, o.w);
    }

    float* destination(int32_t row, int64_t s, int64_t n) const {
        bool in_one_sample = s % row_stride() + n <= row_stride();
        return !layout.shared && in_one_sample ? at(row, Coordinates(layout.real, s)) : nullptr;
    }

    // Copies the spans of real outputs and leaves out the padding between them. Each channel gets all its spans before
    // the next, because these lie together in the output.
    void store_tile(const float* tile, int32_t row, int64_t n_rows, int64_t s, int64_t n) const {
        struct Span {
            int64_t from, n;
            float* to;  // of the first channel
        } spans[BLOCK];
        int n_spans = 0;
        const Geometry& g = layout.real;
        for (int64_t i = 0, n_here; i < n; i += n_here) {
            Coordinates o(layout.copied, s + i);
            n_here = smaller(n - i, layout.copied.out[WIDTH] - o.w);
            int64_t n_real = smaller(n_here, g.out[WIDTH] - o.w);
            if (n_real > 0 && o.d < g.out[DEPTH] && o.h < g.out[HEIGHT]) spans[n_spans++] = {i, n_real, at(row, o)};
        }
        for (int64_t r = 0; r < n_rows; r++)
            for (const Span* span = spans; span < spans + n_spans; span++)
                copy_floats(tile + r * BLOCK + span->from, span->n, span->to + r * row_stride());
    }
};

// y = convolution of x (samples, channels, depth, height, width; contiguous) + bias, then max(0, .) where asked, for the
// output channels [r0, r1) of n_samples samples, of which the first is at x and y. Returns an Outcome or a WRONG: then y
// is not to be used.
EXPORT int32_t pc_convolution(const Matrix* m, const float* bias, int32_t relu, const Geometry* geometry,
                              const float* x, float* y, int64_t n_samples, int32_t r0, int32_t r1) {
    if (m->n_columns == 0 && m->n_entries > 0) return wrong_indices(*m);
    Layout layout = best_layout(as_one_row(*geometry), n_samples, *m);
    ConvolutionInput input(layout, x);
    if (!input.has_memory()) return NO_MEMORY;
    Epilogue then{m->scales, bias, relu != 0};
    int32_t outcome = DONE, group_rows = geometry->group_rows();
    for (int32_t row = r0, end; row < r1 && outcome == DONE; row = end) {
        int32_t group = row / group_rows;
        end = smaller(r1, (group + 1) * group_rows);
        input.channel = group * geometry->group_channels();
        outcome = product(*m, row, end, layout.n_positions, input, then, ConvolutionOutput{layout, y});
    }
    return outcome;
}
