// Activations, element by element, as torch has them up to rounding. NaN gives NaN.
//
// The polynomials were fitted for this file: the largest relative error of each, before rounding, stands beside it.
#pragma once

#include "vectors.h"

// native.ACTIVATIONS in structs.py has the same codes.
enum Activation : int32_t { RELU = 1, RELU6, LEAKY_RELU, HARDSWISH, SIGMOID, SILU, TANH, GELU, GELU_TANH };

// c[0] + c[1] x + c[2] x^2 + ...
template <int N>
INLINE Floats polynomial(const float (&c)[N], Floats x) {
    Floats y = all(c[N - 1]);
    for (int i = N - 2; i >= 0; i--) y = y * x + c[i];
    return y;
}

// e^x = 2^n e^r with a whole n and |r| <= ln(2) / 2.
INLINE Floats exponential(Floats x) {
    static constexpr float C[] = {0.49999994f, 0.16666521f, 0.04166839f, 0.008368745f, 0.001381454f};  // 3e-9
    constexpr float ROUNDING = 3 << 22, LOW = -104, HIGH = 89;
    x = x < LOW ? all(LOW) : x > HIGH ? all(HIGH) : x;  // 0 and infinity; NaN is neither
    const Floats shifted = x * 1.44269504f + ROUNDING, n = shifted - ROUNDING;
    const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln(2) in two parts, of which one is short
    const Floats y = polynomial(C, r) * (r * r) + r + 1.0f;
    // The power of two in two factors, because it alone may be too large or too small for a float.
    const Ints power = same_bits<Ints>(shifted) - same_bits<Ints>(all(ROUNDING)), half = power >> 1;
    return y * same_bits<Floats>((half + 127) << 23) * same_bits<Floats>((power - half + 127) << 23);
}

INLINE Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

INLINE Floats hyperbolic_tangent(Floats x) {
    static constexpr float C[] = {-0.33333284f, 0.13331515f, -0.053745147f, 0.020655226f, -0.005721638f};  // 4e-9
    const Floats a = size_of(x), square = x * x;
    const Floats near = polynomial(C, square) * square * a + a;
    const Floats far = 1.0f - 2.0f / (exponential(a + a) + 1.0f);
    return with_sign_of(a < 0.625f ? near : far, x);
}

// x P(X <= x) for a normal X. P(X <= -a) = t e^(-a^2 / 2) polynomial(t) with t = 1 / (1 + 0.3 a), for a >= 0.
INLINE Floats gelu(Floats x) {
    static constexpr float C[] = {0.11968638f,   0.11957747f, 0.11019106f,   0.07858565f,  0.09561853f,
                                  -0.078468382f, 0.19068731f, -0.227424979f, 0.112113170f, -0.020566219f};  // 4e-9
    const Floats a = size_of(x), t = 1.0f / (1.0f + 0.3f * a);
    const Floats tail = polynomial(C, t) * t * exponential(a * a * -0.5f);
    return x * (x < 0 ? tail : 1.0f - tail);
}

// The same by a tangent: x (1 + tanh u) / 2, which is x sigmoid(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3).
INLINE Floats gelu_by_tangent(Floats x) { return x * sigmoid(1.59576912f * (x + 0.044715f * (x * x * x))); }

INLINE Floats clipped(Floats x, float low, float high) { return x < low ? all(low) : x > high ? all(high) : x; }

// task(function) with the function of an activation; `slope` is that of a LEAKY_RELU.
template <class Task>
INLINE void with_activation(int32_t activation, float slope, Task task) {
    switch (activation) {
        case RELU: return task([](Floats x) INLINED { return x < 0 ? Floats{} : x; });
        case RELU6: return task([](Floats x) INLINED { return clipped(x, 0, 6); });
        case LEAKY_RELU: return task([=](Floats x) INLINED { return x > 0 ? x : x * slope; });
        case HARDSWISH: return task([](Floats x) INLINED { return x * (clipped(x + 3.0f, 0, 6) / 6.0f); });
        case SIGMOID: return task([](Floats x) INLINED { return sigmoid(x); });
        case SILU: return task([](Floats x) INLINED { return x / (1.0f + exponential(-x)); });
        case TANH: return task([](Floats x) INLINED { return hyperbolic_tangent(x); });
        case GELU: return task([](Floats x) INLINED { return gelu(x); });
        case GELU_TANH: return task([](Floats x) INLINED { return gelu_by_tangent(x); });
    }
}

// Of n_rows times n neighbouring floats, whose rows are `stride` apart, in place.
APART static void activate(int32_t activation, float slope, float* at, int64_t n_rows, int64_t n, int64_t stride) {
    with_activation(activation, slope, [&](auto of) INLINED {
        for (int64_t r = 0; r < n_rows; r++) {
            float *to = at + r * stride, *end = to + n;
            for (; to + LANES <= end; to += LANES) store(to, of(load<Floats>(to)));
            if (to < end) {
                const int left = static_cast<int>(end - to);
                store_first(to, of(load<Floats>(Padded<float>(to, left).at)), left);
            }
        }
    });
}
