// What happens to a sum before it is stored.
#pragma once

#include "vectors.h"

// sum * scale of the row + bias of the row, then max(0, .) where asked.
struct Epilogue {
    const float* scales;  // or null for ones
    const float* biases;  // or null for zeros
    bool relu;
    float scale(int32_t row) const { return scales ? scales[row] : 1.0f; }
    float bias(int32_t row) const { return biases ? biases[row] : 0.0f; }
};

template <class Factor>
INLINE Floats finish(Floats sum, Factor scale, Factor bias, bool relu) {
    Floats y = sum * scale + bias;
    return relu ? y < 0 ? Floats{} : y : y;
}
