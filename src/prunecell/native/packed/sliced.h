// A matrix packed for products with one sample or a few: SELL, "sliced ELLPACK" (Kreutzer et al. 2014, A unified sparse
// matrix data format for efficient general sparse matrix-vector multiplication on modern processors with wide SIMD units,
// https://arxiv.org/abs/1307.6209).
//
// Rows are sorted by their number of entries, and LANES neighbouring ones are a slice: a row a lane. A step of a slice
// has one entry of each of them. So sums need no lane of another, and a product has one long loop without surprises.
#pragma once

#include "../linear.h"
#include "blocked.h"
#include "memory.h"

// How the entries of a step tell their columns. Where there is a gather instruction: how many columns a row skipped since
// its entry before; entries of value 0 bridge a larger gap, and fill the rows that end before their slice. Elsewhere:
// the columns, where n_columns stands for a zero behind the input.
struct Sliced {
    int32_t n_rows, n_columns, n_slices;
    int64_t n_entries, n_steps;
    const int64_t* first_steps;  // n_slices + 1
    const int32_t* rows;         // n_slices * LANES; -1 where there is none
    const void* places;          // [step][lane], uint8 or, as `wide` tells, int32 or uint16
    const float* values;         // [step][lane]
    bool wide;
};

// The entries of a row as places and values, one after the other.
template <class Task>
INLINE void for_steps(const Decoded& row, int32_t r, Task task) {
    int32_t before = -1;
    for (int64_t k = row.begin(r), end = row.begin(r + 1); k < end; k++) {
        const int32_t column = row.columns.at[k];
        if constexpr (HAS_GATHER) {
            for (; column - before > 256; before += 256) task(255, 0.0f);
            task(column - before - 1, row.values.at[k]);
            before = column;
        } else {
            task(column, row.values.at[k]);
        }
    }
}

template <class Place>
static void fill_slices(const Decoded& decoded, const Sliced& m, Place filler, Place* places, float* values) {
    for (int32_t slice = 0; slice < m.n_slices; slice++) {
        const int64_t begin = m.first_steps[slice], end = m.first_steps[slice + 1];
        for (int lane = 0; lane < LANES; lane++) {
            int64_t to = begin * LANES + lane;
            const int32_t row = m.rows[slice * LANES + lane];
            if (row >= 0)
                for_steps(decoded, row, [&](int32_t place, float value) {
                    places[to] = static_cast<Place>(place), values[to] = value, to += LANES;
                });
            for (; to < end * LANES; to += LANES) places[to] = filler, values[to] = 0;
        }
    }
}

// Packs a matrix into slices. Returns an Outcome or a WRONG: then nothing was packed.
EXPORT int32_t pc_slice(const Matrix* matrix, Packed* packed) {
    const Matrix& m = *matrix;
    const Rows rows(m, 0, m.n_rows);
    if (!rows.begins.at) return NO_MEMORY;
    if (!rows.sound) return WRONG_STARTS;
    const Decoded decoded(m, rows, 0, m.n_rows);
    if (!decoded.has_memory()) return NO_MEMORY;
    if (!decoded.sound) return wrong_indices(m);
    Sliced form{m.n_rows, m.n_columns, static_cast<int32_t>((m.n_rows + int64_t{LANES} - 1) / LANES), m.n_entries, 0,
                nullptr, nullptr, nullptr, nullptr, m.n_columns > 0xffff};
    const Scratch<int32_t> lengths(m.n_rows), sorted(m.n_rows);
    if (!lengths.at || !sorted.at) return NO_MEMORY;
    int32_t longest = 0;
    for (int32_t r = 0; r < m.n_rows; r++) {
        int32_t n = 0;
        for_steps(decoded, r, [&](int32_t, float) { n++; });
        lengths.at[r] = n, longest = larger(longest, n);
    }
    const Scratch<int32_t> counts(longest + 2);
    if (!counts.at) return NO_MEMORY;
    sort_rows(m.n_rows, longest, counts.at, sorted.at, [&](int32_t r) { return lengths.at[r]; });
    auto last_of = [&](int32_t slice) { return smaller((slice + 1) * int64_t{LANES}, m.n_rows) - 1; };
    for (int32_t slice = 0; slice < form.n_slices; slice++) form.n_steps += lengths.at[sorted.at[last_of(slice)]];
    const int64_t place_bytes = HAS_GATHER ? 1 : form.wide ? sizeof(int32_t) : sizeof(uint16_t);
    Arena arena;
    auto lay_out = [&] {
        auto* to = arena.next<Sliced>(1);
        form.first_steps = arena.next<int64_t>(form.n_slices + 1);
        form.rows = arena.next<int32_t>(int64_t{form.n_slices} * LANES);
        form.places = arena.next<char>(form.n_steps * LANES * place_bytes);
        form.values = arena.next<float>(form.n_steps * LANES);
        return to;
    };
    lay_out();
    if (!arena.allocate()) return NO_MEMORY;
    memcpy(static_cast<void*>(lay_out()), &form, sizeof(form));
    auto* first_steps = const_cast<int64_t*>(form.first_steps);
    auto* of_lanes = const_cast<int32_t*>(form.rows);
    first_steps[0] = 0;
    for (int32_t slice = 0; slice < form.n_slices; slice++) {
        first_steps[slice + 1] = first_steps[slice] + lengths.at[sorted.at[last_of(slice)]];
        for (int64_t lane = 0, i = int64_t{slice} * LANES; lane < LANES; lane++, i++)
            of_lanes[i] = i < m.n_rows ? sorted.at[i] : -1;
    }
    auto* places = const_cast<void*>(form.places);
    auto* values = const_cast<float*>(form.values);
    if constexpr (HAS_GATHER)
        fill_slices(decoded, form, uint8_t{0}, static_cast<uint8_t*>(places), values);
    else if (form.wide)
        fill_slices(decoded, form, m.n_columns, static_cast<int32_t*>(places), values);
    else
        fill_slices(decoded, form, static_cast<uint16_t>(m.n_columns), static_cast<uint16_t*>(places), values);
    *packed = {arena.at, arena.n_bytes};
    return DONE;
}

// The samples of an input: sample s at at + s * stride, with a zero behind its last feature where that is read.
struct Samples {
    const float* at;
    int64_t stride;
};

// The same of an output.
struct Results {
    float* at;
    int64_t stride;
};

template <int SAMPLES, class Place>
INLINE void slice_sums(const Place* place, const float* value, int64_t n_steps, const Samples& x, Floats* sums) {
    Floats even[SAMPLES] = {}, odd[SAMPLES] = {};
    Words at = ~Words{};
    auto add = [&](int64_t step, Floats* to) INLINED {
        const Place* places = place + step * LANES;
        const Floats factor = load<Floats>(value + step * LANES);
        prefetch(value + step * LANES + 1024), prefetch(places + 1024);
        if constexpr (sizeof(Place) == 1) at += same_bits<Words>(widen(places) + 1);
        for (int s = 0; s < SAMPLES; s++) {
            const float* sample = x.at + s * x.stride;
            if constexpr (sizeof(Place) == 1) {
                to[s] += factor * gather_for(factor, sample, at);
            } else {
                Floats inputs{};
                for (int lane = 0; lane < LANES; lane++) inputs[lane] = sample[places[lane]];
                to[s] += factor * inputs;
            }
        }
    };
    int64_t step = 0;
    for (; step + 2 <= n_steps; step += 2) add(step, even), add(step + 1, odd);
    if (step < n_steps) add(step, even);
    for (int s = 0; s < SAMPLES; s++) sums[s] = even[s] + odd[s];
}

template <int SAMPLES, class Place>
APART static void slices_product(const Sliced& m, const Samples& x, const Epilogue& then, const Results& y,
                                 int32_t slice0, int32_t slice1) {
    for (int32_t slice = slice0; slice < slice1; slice++) {
        Floats sums[SAMPLES];
        const int64_t begin = m.first_steps[slice];
        slice_sums<SAMPLES>(static_cast<const Place*>(m.places) + begin * LANES, m.values + begin * LANES,
                            m.first_steps[slice + 1] - begin, x, sums);
        const int32_t* row = m.rows + int64_t{slice} * LANES;
        for (int lane = 0; lane < LANES && row[lane] >= 0; lane++)
            for (int s = 0; s < SAMPLES; s++)
                y.at[row[lane] + s * y.stride] =
                    finish(all(sums[s][lane]), then.scale(row[lane]), then.bias(row[lane]), then.relu)[0];
    }
}

constexpr int MOST_SAMPLES = 4;

template <class Place, int SAMPLES = MOST_SAMPLES>
static void slices_product(int n_samples, const Sliced& m, const Samples& x, const Epilogue& then, const Results& y,
                           int32_t slice0, int32_t slice1) {
    if constexpr (SAMPLES > 1)
        if (n_samples < SAMPLES)
            return slices_product<Place, SAMPLES - 1>(n_samples, m, x, then, y, slice0, slice1);
    slices_product<SAMPLES, Place>(m, x, then, y, slice0, slice1);
}

// The first slice that begins at a step or later.
static int32_t slice_from(const Sliced& m, int64_t step) {
    int32_t low = 0, high = m.n_slices;
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        if (m.first_steps[middle] < step) low = middle + 1;
        else high = middle;
    }
    return low;
}

// Samples as the product reads them: features side by side, and a zero behind them where it reads that.
struct SamplesOf {
    Scratch<float> copy;
    Samples samples;

    SamplesOf(const Activations& x, int64_t n_features, int64_t n_samples)
        : copy(is_ready(x, n_samples) ? 0 : n_samples * (n_features + 1)),
          samples{x.at, x.sample_stride} {
        if (!copy.at || is_ready(x, n_samples)) return;
        samples = {copy.at, n_features + 1};
        for (int64_t s = 0; s < n_samples; s++) {
            float* to = copy.at + s * (n_features + 1);
            for (int64_t f = 0; f < n_features; f++) to[f] = x.at[s * x.sample_stride + f * x.feature_stride];
            to[n_features] = 0;
        }
    }

    static bool is_ready(const Activations& x, int64_t n_samples) {
        return HAS_GATHER && (n_samples == 1 || x.feature_stride == 1);
    }
};

// y = x W^T + bias, then max(0, .) where asked, for 1 to MOST_SAMPLES samples and the slices that begin in the steps
// [step0, step1); those of the last slices may be n_steps.
static void sliced_part(const Sliced& m, const Epilogue& then, const Samples& x, int64_t n_samples, const Results& y,
                        int64_t step0, int64_t step1) {
    const int32_t slice0 = step0 <= 0 ? 0 : slice_from(m, step0);
    const int32_t slice1 = step1 > m.n_steps ? m.n_slices : slice_from(m, step1);
    if constexpr (HAS_GATHER) slices_product<uint8_t>(n_samples, m, x, then, y, slice0, slice1);
    else if (m.wide) slices_product<int32_t>(n_samples, m, x, then, y, slice0, slice1);
    else slices_product<uint16_t>(n_samples, m, x, then, y, slice0, slice1);
}

// Products from which a second thread pays: about 6 us.
constexpr int64_t WORTH_SHARING = 1 << 15;

// The same for all slices, which the threads share by steps.
static void sliced_product(const Sliced& m, const Epilogue& then, const Samples& x, int64_t n_samples, const Results& y,
                           const Team* team) {
    const bool is_worth_it = m.n_steps * LANES * n_samples >= WORTH_SHARING;
    share(is_worth_it ? team : nullptr, m.n_steps + 1, [&](auto take) {
        take([&](int64_t step0, int64_t step1) { sliced_part(m, then, x, n_samples, y, step0, step1); });
        return DONE;
    });
}
