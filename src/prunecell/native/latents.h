// Quantized weights: latents go into a weight before a step of an optimizer, and come out of it rounded.
#pragma once

#include "matrix.h"
#include "team.h"
#include "vectors.h"

// A weight of n_rows rows and what belongs to it; quantization/passes.py fills it in.
struct Latents {
    float *weight, *latent;   // what the optimizer moves is in `weight` during its step, and kept in `latent`
    const float* gradient;    // of the weight
    float* inner;             // receives the gradient of the latent; may be `latent`
    const float* steps;       // one, or one a row
    // Prices in bits, whose sum is kept in [low, high]; kernels: one a row and input, or null. Without rows it is a
    // vector, where the first step costs `low` and others `growth` for each by which the magnitude is larger.
    const float *rows, *columns, *kernels;
    double* sums;             // one a row: receives the gradient of the step's logarithm
    int64_t n_rows, n_inputs, n_positions;
    float lam, low, high, growth;  // what a bit costs, < 0 where a loss is made larger; see prices.py
    float largest;            // integer; 0: any, and the latent is in units of the step
    int32_t one_step, only_growth, fixed;
};

// The columns of a row that are worked on at a time: they stay in the first-level cache.
constexpr int64_t LATENT_COLUMNS = 1024;

// The same place of the next page, to which the CPU's own prefetchers do not go.
INLINE void ask_for(const float* from) { __builtin_prefetch(from + LATENT_COLUMNS); }

INLINE Floats pick(Ints where, Floats yes, Floats no) {
    return same_bits<Floats>((where & same_bits<Ints>(yes)) | (~where & same_bits<Ints>(no)));
}
INLINE Floats at_least(Floats v, Floats low) { return pick(v < low, low, v); }
INLINE Floats at_most(Floats v, Floats high) { return pick(v > high, high, v); }

// The nearest whole number, of two the even one; never -0. From 2^23 on every float is whole.
INLINE Floats rounded(Floats v) {
    const Floats whole = all(8388608.0f), size = size_of(v);
    return with_sign_of(pick(size < whole, (size + whole) - whole, size), v) + all(0.0f);
}

// One kind of latent: how it is scaled to the integer, and what becomes of a gradient.
struct RateLatent {
    static INLINED Floats scaled(Floats latent, Floats) { return latent; }
    static INLINED Floats of_weight(Floats weight, Floats step) { return weight / step; }
    static INLINED Floats integer(Floats scaled, float) { return rounded(scaled); }
};
struct IntLatent {
    static INLINED Floats scaled(Floats latent, Floats step) { return latent / step; }
    static INLINED Floats of_weight(Floats weight, Floats) { return weight; }
    static INLINED Floats integer(Floats scaled, float largest) {
        return at_least(at_most(rounded(scaled), all(largest)), all(-largest));
    }
};

// Calls work(column, n) for each vector of [begin, end); n < LANES for the last.
template <class Work>
INLINE void for_columns(int64_t begin, int64_t end, Work work) {
    int64_t c = begin;
    for (; c + LANES <= end; c += LANES) work(c, LANES);
    if (c < end) work(c, static_cast<int>(end - c));
}
INLINE Floats load_some(const float* from, int n) {
    return n == LANES ? load<Floats>(from) : load<Floats>(Padded<float>(from, n).at);
}
INLINE void store_some(float* to, Floats v, int n) {
    if (n == LANES)
        store(to, v);
    else
        memcpy(to, &v, n * sizeof(float));
}

// Weights that others wrote have new latents.
template <class Kind>
INLINE void take_changes(const Latents& t, float* w, float* latent, Floats step, int64_t n) {
    Ints any{};
    for_columns(0, n, [&](int64_t c, int m) INLINED {
        ask_for(w + c);
        ask_for(latent + c);
        Floats made = Kind::integer(Kind::scaled(load_some(latent + c, m), step), t.largest) * step;
        any |= load_some(w + c, m) != made;
    });
    bool changed = false;
    for (int i = 0; i < LANES; i++) changed |= any[i] != 0;
    if (!changed) return;
    for_columns(0, n, [&](int64_t c, int m) INLINED {
        Floats v = load_some(w + c, m), old = load_some(latent + c, m);
        Floats made = Kind::integer(Kind::scaled(old, step), t.largest) * step;
        store_some(latent + c, pick(v != made, Kind::of_weight(v, step), old), m);
    });
}

// What the first step away from zero costs in columns [begin, begin + n) of a row, in bits.
INLINE void price_columns(const Latents& t, int64_t row, int64_t begin, int64_t n, float* price) {
    if (!t.rows) {
        for (int64_t c = 0; c < n; c++) price[c] = t.low;
        return;
    }
    const float of_row = t.rows[row];
    if (t.kernels)
        for (int64_t c = 0; c < n;) {
            const int64_t input = (begin + c) / t.n_positions, end = smaller(n, (input + 1) * t.n_positions - begin);
            const float base = of_row + t.kernels[row * t.n_inputs + input];
            for (; c < end; c++) price[c] = base + t.columns[begin + c];
        }
    else
        for (int64_t c = 0; c < n; c++) price[c] = of_row + t.columns[begin + c];
    for_columns(0, n, [&](int64_t c, int m) INLINED {
        store_some(price + c, at_most(at_least(load_some(price + c, m), all(t.low)), all(t.high)), m);
    });
}

template <class Kind>
static void enter_rows(const Latents& t, int64_t begin_row, int64_t end_row) {
    const int64_t width = t.n_inputs * t.n_positions;
    const bool priced = t.lam != 0, near_too = priced && !t.only_growth;
    float price[LATENT_COLUMNS] = {};
    for (int64_t row = begin_row; row < end_row; row++) {
        const Floats step = all(t.steps[t.one_step ? 0 : row]);
        double total = 0;
        for (int64_t begin = 0; begin < width; begin += LATENT_COLUMNS) {
            const int64_t n = smaller(LATENT_COLUMNS, width - begin), at = row * width + begin;
            float *w = t.weight + at, *latent = t.latent + at;
            take_changes<Kind>(t, w, latent, step, n);
            if (near_too) price_columns(t, row, begin, n, price);
            Floats sum{};
            for_columns(0, n, [&](int64_t c, int m) INLINED {
                ask_for(t.gradient + at + c);
                const Floats l = load_some(latent + c, m), x = Kind::scaled(l, step);
                const Floats q = Kind::integer(x, t.largest), size = size_of(x);
                Floats g = load_some(t.gradient + at + c, m);
                if constexpr (std::is_same_v<Kind, RateLatent>) {
                    g *= step;
                    sum += g * q;
                    if (priced) {
                        const Floats growth = t.rows ? all(t.growth) : all(t.growth) / size;
                        const Floats bits = pick(size >= all(1.0f), growth, load_some(price + c, m));
                        g += pick(l == Floats{}, Floats{}, all(t.lam) * with_sign_of(bits, l));
                    }
                } else {
                    const Ints inside = size < all(t.largest + 0.5f);
                    sum += g * step * pick(inside, q - x, q);
                    g = pick(inside, g, Floats{});
                }
                if (t.fixed) g = pick(l == Floats{}, Floats{}, g);
                store_some(t.inner + at + c, g, m);
                store_some(w + c, l, m);
            });
            for (int i = 0; i < LANES; i++) total += sum[i];
        }
        t.sums[row] = total;
    }
}

template <class Kind>
static void leave_rows(const Latents& t, int64_t begin_row, int64_t end_row) {
    const int64_t width = t.n_inputs * t.n_positions;
    for (int64_t row = begin_row; row < end_row; row++) {
        const Floats step = all(t.steps[t.one_step ? 0 : row]);
        float *w = t.weight + row * width, *latent = t.latent + row * width;
        for_columns(0, width, [&](int64_t c, int m) INLINED {
            Floats made = load_some(w + c, m);
            if (t.fixed) made = pick(load_some(latent + c, m) == Floats{}, Floats{}, made);
            store_some(latent + c, made, m);
            store_some(w + c, Kind::integer(Kind::scaled(made, step), t.largest) * step, m);
        });
    }
}

template <class Task>
static int32_t share_rows(const Latents& t, const Team* team, Task task) {
    return share(team, t.n_rows, [&](auto take) {
        take(task);
        return DONE;
    });
}

// Before a step: writes the latents into the weight, and their gradients into `inner`.
EXPORT int32_t pc_enter_latents(const Latents* t, const Team* team) {
    return share_rows(*t, team, [=](int64_t begin, int64_t end) {
        t->largest != 0 ? enter_rows<IntLatent>(*t, begin, end) : enter_rows<RateLatent>(*t, begin, end);
    });
}

// After it: takes the latents out of the weight, and writes the rounded weight there.
EXPORT int32_t pc_leave_latents(const Latents* t, const Team* team) {
    return share_rows(*t, team, [=](int64_t begin, int64_t end) {
        t->largest != 0 ? leave_rows<IntLatent>(*t, begin, end) : leave_rows<RateLatent>(*t, begin, end);
    });
}
