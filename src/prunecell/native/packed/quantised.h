// Samples quantised to int8, each by itself: s = max |x| / 127, q = x / s rounded to the nearest, of two the even one.
//
// Every step is one operation of floats, rounded once, or exact; so the results have the same bits at every level, on
// any number of threads, whatever other samples there are, and in torch (sparse/quantised.py).
#pragma once

#include "../vectors.h"

// A sample of smaller numbers is quantised as if this was its largest: so neither its step nor the reciprocal of that
// leaves the range of normal floats.
constexpr float LEAST = 0x1p-100f;

INLINE Ints magnitudes(Floats x) { return same_bits<Ints>(x) & 0x7fffffff; }

// The largest magnitude of n features, by its bits: those of infinity and NaN are larger than all others.
static int32_t largest_magnitude(const float* x, int64_t n) {
    Ints a{}, b{}, c{}, d{};
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        a = higher(a, magnitudes(load<Floats>(x + i))), b = higher(b, magnitudes(load<Floats>(x + i + LANES)));
        c = higher(c, magnitudes(load<Floats>(x + i + 2 * LANES)));
        d = higher(d, magnitudes(load<Floats>(x + i + 3 * LANES)));
    }
    for (; i + LANES <= n; i += LANES) a = higher(a, magnitudes(load<Floats>(x + i)));
    if (i < n) a = higher(a, magnitudes(load<Floats>(Padded<float>(x + i, n - i).at)));
    a = higher(higher(a, b), higher(c, d));
    int32_t largest = 0;
    for (int lane = 0; lane < LANES; lane++) largest = a[lane] > largest ? a[lane] : largest;
    return largest;
}

// The nearest integers of numbers of a magnitude up to 2^22.
INLINE Ints nearest(Floats x) {
    constexpr float ONES_PLACE = 0x1.8p23f;  // among floats of this size neighbours differ by 1
    return same_bits<Ints>(settled(x) + ONES_PLACE) - same_bits<Ints>(all(ONES_PLACE));
}

// The bytes that a quantised sample takes: whole vectors, in which its features are followed by zeros.
INLINE int64_t quantised_bytes(int64_t n_features) { return round_up(n_features, 4 * LANES); }

// Writes the features of a sample as bytes, where `zero` stands for 0; returns its step, NaN if one of them is not finite.
static float quantise(const float* x, int64_t n, int32_t zero, int8_t* to) {
    const int32_t largest = largest_magnitude(x, n);
    if (largest >= 0x7f800000) {
        memset(to, zero, quantised_bytes(n));
        return __builtin_nanf("");
    }
    const float magnitude = same_bits<float>(largest) < LEAST ? LEAST : same_bits<float>(largest);
    const float step = magnitude / 127, per_step = 127 / magnitude;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) store_bytes(to + i, nearest(load<Floats>(x + i) * per_step) + zero);
    for (const int64_t end = quantised_bytes(n); i < end; i += LANES)
        store_bytes(to + i, nearest(load<Floats>(Padded<float>(x + i, larger(0, n - i)).at) * per_step) + zero);
    return step;
}
