// What happens to a sum before it is stored.
#pragma once

#include "operands.h"

// sum * scale of the row + bias of the row, then max(0, .) where asked.
struct Epilogue {
    const float* scales;  // or null for ones
    const void* biases;   // or null for zeros
    int32_t bias_type;
    bool relu;
    float scale(int32_t row) const { return scales ? scales[row] : 1.0f; }
    float bias(int32_t row) const {
        if (!biases) return 0;
        if (__builtin_expect(bias_type == FLOAT32, true)) return element<Float32>(biases, row);
        return bias_type == FLOAT16 ? element<Float16>(biases, row) : element<BFloat16>(biases, row);
    }

    // Those of LANES rows, of which some may be n or more: there is nothing of them.
    Floats scales_of(Words rows, uint32_t n) const { return scales ? gather(scales, rows, n) : all(1); }
    Floats biases_of(Words rows, uint32_t n) const {
        if (!biases) return Floats{};
        if (bias_type == FLOAT32) return gather(elements<Float32>(biases), rows, n);
        Floats of_rows{};
        for (int lane = 0; lane < LANES; lane++)
            if (rows[lane] < n) of_rows[lane] = bias(static_cast<int32_t>(rows[lane]));
        return of_rows;
    }
};

template <class Factor>
INLINE Floats finish(Floats sum, Factor scale, Factor bias, bool relu) {
    Floats y = sum * scale + bias;
    return relu ? y < 0 ? Floats{} : y : y;
}
