// Rows times one dense vector.
#pragma once

#include "epilogue.h"
#include "formats/formats.h"

template <class Format, class Value>
static void vector_product(const Matrix& m, int32_t r0, int32_t r1, const DenseVector& x, const Epilogue& then,
                           float* y, int64_t y_stride) {
    for (int32_t r = r0; r < r1; r++) {
        float total = Format::template dot<Value>(m, r, x);
        y[r * y_stride] = finish(all(total), then.scale(r), then.bias(r), then.relu)[0];
    }
}

// y[r * y_stride] = row r times x, for the rows [r0, r1).
static void vector_product(const Matrix& m, int32_t r0, int32_t r1, const float* x, const Epilogue& then, float* y,
                           int64_t y_stride) {
    DenseVector vector(x, m.n_columns);
    with_format(m.format, [&](auto format) {
        with_value_type(m.value_type, [&](auto value) {
            vector_product<decltype(format), decltype(value)>(m, r0, r1, vector, then, y, y_stride);
        });
    });
}
