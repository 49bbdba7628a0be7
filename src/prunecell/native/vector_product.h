// Rows times one dense vector.
#pragma once

#include "epilogue.h"
#include "formats/formats.h"

template <class Format, class Value>
APART static int32_t vector_product(const Matrix& m, int32_t r0, int32_t r1, const float* x, const Epilogue& then,
                              float* y, int64_t y_stride) {
    DenseVector vector(x, m.n_columns, Format::READABLE);
    if (!vector.copy.at) return NO_MEMORY;
    typename Format::Dot dot(m, vector);
    bool starts_are_sound = for_rows(m, r0, r1, [&](int32_t r, int64_t begin, int64_t end) INLINED {
        float total = dot.template row<Value>(r, begin, end);
        y[r * y_stride] = finish(all(total), then.scale(r), then.bias(r), then.relu)[0];
    });
    return !starts_are_sound ? WRONG_STARTS : dot.is_sound() ? DONE : Format::WRONG;
}

// y[r * y_stride] = row r times x, for the rows [r0, r1).
static int32_t vector_product(const Matrix& m, int32_t r0, int32_t r1, const float* x, const Epilogue& then, float* y,
                              int64_t y_stride) {
    return with_format(m.format, [&](auto format) {
        return with_value_type(m.value_type, [&](auto value) {
            return vector_product<decltype(format), decltype(value)>(m, r0, r1, x, then, y, y_stride);
        });
    });
}
