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
        return with_activation_type(bias_type, [=](auto type) { return element<decltype(type)>(biases, row); });
    }
};

template <class Factor>
INLINE Floats finish(Floats sum, Factor scale, Factor bias, bool relu) {
    Floats y = sum * scale + bias;
    return relu ? y < 0 ? Floats{} : y : y;
}
