// Rows times one dense vector.
#pragma once

#include "epilogue.h"
#include "formats/formats.h"
#include "team.h"

template <class Format, class Value>
APART static int32_t vector_product(const Matrix& m, int32_t r0, int32_t r1, const DenseVector& x, const Epilogue& then,
                                    float* y) {
    typename Format::Dot dot(m, x);
    bool starts_are_sound = for_rows(m, r0, r1, [&](int32_t r, int64_t begin, int64_t end) INLINED {
        float total = dot.template row<Value>(r, begin, end);
        y[r] = finish(all(total), then.scale(r), then.bias(r), then.relu)[0];
    });
    return !starts_are_sound ? WRONG_STARTS : dot.is_sound() ? DONE : Format::WRONG;
}

// y[r] = row r times x, for all rows.
static int32_t vector_of_floats(const Matrix& m, const float* x, const Epilogue& then, float* y, const Team* team) {
    return with_format(m.format, [&](auto format) {
        const DenseVector vector(x, m.n_columns, decltype(format)::READABLE);
        if (!vector.copy.at) return int32_t{NO_MEMORY};
        return with_value_type(m.value_type, [&](auto value) {
            return share(team, m.n_rows, [&](auto take) {
                int32_t outcome = DONE;
                take([&](int64_t r0, int64_t r1) {
                    if (outcome == DONE)
                        outcome = vector_product<decltype(format), decltype(value)>(m, r0, r1, vector, then, y);
                });
                return outcome;
            });
        });
    });
}

// The same of a type of activations.
static int32_t vector_product(const Matrix& m, int32_t type, const void* x, const Epilogue& then, void* y,
                              const Team* team) {
    if (type == FLOAT32) return vector_of_floats(m, static_cast<const float*>(x), then, static_cast<float*>(y), team);
    const Scratch<float> from(m.n_columns), to(m.n_rows);
    if (!from.at || !to.at) return NO_MEMORY;
    return with_operand_type(type, [&](auto of) {
        using Type = decltype(of);
        copy_as_floats<Type>(elements<Type>(x), m.n_columns, from.at);
        const int32_t outcome = vector_of_floats(m, from.at, then, to.at, team);
        copy_from_floats<Type>(to.at, m.n_rows, elements<Type>(y));
        return outcome;
    });
}
