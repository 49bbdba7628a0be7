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
    const void* values;          // [step][lane], as the matrix stores them: with one sample, memory is what a product waits for
    int32_t value_type;
    bool wide;
};

// The steps of a row, one after the other: task(place, entry), where an entry of -1 has the value 0.
template <class Task>
INLINE void for_steps(const Decoded& row, int32_t r, Task task) {
    int32_t before = -1;
    for (int64_t k = row.begin(r), end = row.begin(r + 1); k < end; k++) {
        const int32_t column = row.columns.at[k];
        if constexpr (HAS_GATHER) {
            for (; column - before > 256; before += 256) task(255, int64_t{-1});
            task(column - before - 1, k);
            before = column;
        } else {
            task(column, k);
        }
    }
}

// Counts the steps of every row. Returns an Outcome or a WRONG.
static int32_t count_steps(const Matrix& m, const Rows& rows, int32_t* lengths) {
    return for_decoded(m, rows, [&](const Decoded& decoded, int32_t r0, int32_t r1) {
        for (int32_t r = r0; r < r1; r++) {
            int32_t n = 0;
            for_steps(decoded, r, [&](int32_t, int64_t) { n++; });
            lengths[r] = n;
        }
        return int32_t{DONE};
    });
}

// Fills the steps of all lanes; `lanes` are those of the rows. Returns an Outcome or a WRONG: a row whose columns were
// changed since its steps were counted may not have room any more.
template <class Place, class Stored>
static int32_t fill_slices(const Matrix& matrix, const Rows& rows, const Sliced& m, const int32_t* lanes, Place filler,
                           Place* places, Stored* values) {
    auto fill = [&](int64_t to, int64_t end) {
        for (; to < end; to += LANES) places[to] = filler, values[to] = 0;
    };
    auto begin = [&](int64_t i) { return m.first_steps[i / LANES] * LANES + i % LANES; };
    auto end = [&](int64_t i) { return m.first_steps[i / LANES + 1] * LANES; };
    for (int64_t i = m.n_rows; i < int64_t{m.n_slices} * LANES; i++) fill(begin(i), end(i));
    return for_decoded(matrix, rows, [&](const Decoded& decoded, int32_t r0, int32_t r1) {
        const auto* stored = static_cast<const Stored*>(matrix.values) + rows.begin(r0);
        bool has_room = true;
        for (int32_t r = r0; r < r1; r++) {
            int64_t to = begin(lanes[r]);
            const int64_t until = end(lanes[r]);
            for_steps(decoded, r, [&](int32_t place, int64_t k) {
                if (!(has_room &= to < until)) return;
                places[to] = static_cast<Place>(place), values[to] = k < 0 ? Stored{} : stored[k], to += LANES;
            });
            fill(to, until);
        }
        return has_room ? int32_t{DONE} : wrong_indices(matrix);
    });
}

// Packs a matrix into slices. Returns an Outcome or a WRONG: then nothing was packed.
EXPORT int32_t pc_slice(const Matrix* matrix, Packed* packed) {
    const Matrix& m = *matrix;
    const Rows rows(m, 0, m.n_rows);
    if (!rows.begins.at) return NO_MEMORY;
    if (!rows.sound) return WRONG_STARTS;
    Sliced form{m.n_rows, m.n_columns, static_cast<int32_t>((m.n_rows + int64_t{LANES} - 1) / LANES), m.n_entries, 0,
                nullptr, nullptr, nullptr, nullptr, m.value_type, m.n_columns > 0xffff};
    const Scratch<int32_t> lengths(m.n_rows), sorted(m.n_rows), lanes(m.n_rows);
    if (!lengths.at || !sorted.at || !lanes.at) return NO_MEMORY;
    if (int32_t outcome = count_steps(m, rows, lengths.at)) return outcome;
    int32_t longest = 0;
    for (int32_t r = 0; r < m.n_rows; r++) longest = larger(longest, lengths.at[r]);
    const Scratch<int32_t> counts(longest + 2);
    if (!counts.at) return NO_MEMORY;
    sort_rows(m.n_rows, longest, counts.at, sorted.at, [&](int32_t r) { return lengths.at[r]; });
    auto last_of = [&](int32_t slice) { return smaller((slice + 1) * int64_t{LANES}, m.n_rows) - 1; };
    for (int32_t slice = 0; slice < form.n_slices; slice++) form.n_steps += lengths.at[sorted.at[last_of(slice)]];
    const int64_t place_bytes = HAS_GATHER ? 1 : form.wide ? sizeof(int32_t) : sizeof(uint16_t);
    const int64_t value_bytes =
        with_value_type(m.value_type, [](auto value) -> int64_t { return sizeof(typename decltype(value)::Stored); });
    Arena arena;
    auto lay_out = [&] {
        auto* to = arena.next<Sliced>(1);
        form.first_steps = arena.next<int64_t>(form.n_slices + 1);
        form.rows = arena.next<int32_t>(int64_t{form.n_slices} * LANES);
        form.places = arena.next<char>(form.n_steps * LANES * place_bytes);
        form.values = arena.next<char>(form.n_steps * LANES * value_bytes);
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
    for (int32_t i = 0; i < m.n_rows; i++) lanes.at[sorted.at[i]] = i;
    auto fill = [&](auto filler) {
        return with_value_type(m.value_type, [&](auto value) {
            using Stored = typename decltype(value)::Stored;
            return fill_slices(m, rows, form, lanes.at, filler, static_cast<decltype(filler)*>(const_cast<void*>(form.places)),
                               static_cast<Stored*>(const_cast<void*>(form.values)));
        });
    };
    const int32_t outcome = HAS_GATHER ? fill(uint8_t{0})
                            : form.wide ? fill(m.n_columns)
                                        : fill(static_cast<uint16_t>(m.n_columns));
    *packed = {arena.at, arena.n_bytes};
    if (outcome) free(arena.at), *packed = {};
    return outcome;
}

// The samples of an input: sample s at at + s * stride, with a zero behind its last feature where that is read.
struct Samples {
    const float* at;
    int64_t stride;
};

template <int SAMPLES, class Place, class Value>
INLINE void slice_sums(const Place* place, const typename Value::Stored* value, int64_t n_steps, const Samples& x,
                       Floats* sums) {
    Floats even[SAMPLES] = {}, odd[SAMPLES] = {};
    Words at = ~Words{};
    auto add = [&](int64_t step, Floats* to) INLINED {
        const Place* places = place + step * LANES;
        const Floats factor = Value::load(value + step * LANES);
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

template <int SAMPLES, class Place, class Value>
APART static void slices_product(const Sliced& m, const Samples& x, const Epilogue& then, const Results& y,
                                 int32_t slice0, int32_t slice1) {
    const auto* places = static_cast<const Place*>(m.places);
    const auto* values = static_cast<const typename Value::Stored*>(m.values);
    for (int32_t slice = slice0; slice < slice1; slice++) {
        Floats sums[SAMPLES];
        const int64_t begin = m.first_steps[slice];
        slice_sums<SAMPLES, Place, Value>(places + begin * LANES, values + begin * LANES,
                                          m.first_steps[slice + 1] - begin, x, sums);
        const int32_t* row = m.rows + int64_t{slice} * LANES;
        const Words rows = load<Words>(row);
        const Floats scale = then.scales_of(rows, m.n_rows), bias = then.biases_of(rows, m.n_rows);
        with_operand_type(y.type, [&](auto type) INLINED {
            using Type = decltype(type);
            for (int s = 0; s < SAMPLES; s++) {
                typename Type::Stored results[LANES], *to = elements<Type>(y.at) + s * y.stride;
                Type::store(results, finish(sums[s], scale, bias, then.relu));
                for (int lane = 0; lane < LANES && row[lane] >= 0; lane++) to[row[lane]] = results[lane];
            }
        });
    }
}

constexpr int MOST_SAMPLES = 4;

template <class Place, class Value, int SAMPLES = MOST_SAMPLES>
static void slices_product(int n_samples, const Sliced& m, const Samples& x, const Epilogue& then, const Results& y,
                           int32_t slice0, int32_t slice1) {
    if constexpr (SAMPLES > 1)
        if (n_samples < SAMPLES)
            return slices_product<Place, Value, SAMPLES - 1>(n_samples, m, x, then, y, slice0, slice1);
    slices_product<SAMPLES, Place, Value>(m, x, then, y, slice0, slice1);
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

// Samples as the product reads them: floats, features side by side, and a zero behind them where it reads that.
struct SamplesOf {
    Scratch<float> copy;
    Samples samples;

    SamplesOf(const Operand& x, int64_t n_features, int64_t n_samples)
        : copy(is_ready(x, n_samples) ? 0 : n_samples * (n_features + 1)),
          samples{static_cast<const float*>(x.at), x.sample_stride} {
        if (!copy.at || is_ready(x, n_samples)) return;
        samples = {copy.at, n_features + 1};
        with_operand_type(x.type, [&](auto type) { copy_samples<decltype(type)>(x, n_features, n_samples); });
        for (int64_t s = 0; s < n_samples; s++) copy.at[s * samples.stride + n_features] = 0;
    }

    template <class Type>
    void copy_samples(const Operand& x, int64_t n_features, int64_t n_samples) {
        const auto* from = elements<Type>(x.at);
        if (x.feature_stride != 1)
            return transpose<Type, Float32>(from, x.feature_stride, n_features, n_samples, copy.at, samples.stride);
        for (int64_t s = 0; s < n_samples; s++)
            copy_as_floats<Type>(from + s * x.sample_stride, n_features, copy.at + s * samples.stride);
    }

    static bool is_ready(const Operand& x, int64_t n_samples) {
        return HAS_GATHER && x.type == FLOAT32 && (n_samples == 1 || x.feature_stride == 1);
    }
};

// y = x W^T + bias, then max(0, .) where asked, for 1 to MOST_SAMPLES samples and the slices that begin in the steps
// [step0, step1); those of the last slices may be n_steps.
static void sliced_part(const Sliced& m, const Epilogue& then, const Samples& x, int64_t n_samples, const Results& y,
                        int64_t step0, int64_t step1) {
    const int32_t slice0 = step0 <= 0 ? 0 : slice_from(m, step0);
    const int32_t slice1 = step1 > m.n_steps ? m.n_slices : slice_from(m, step1);
    with_value_type(m.value_type, [&](auto value) {
        using Value = decltype(value);
        if constexpr (HAS_GATHER) slices_product<uint8_t, Value>(n_samples, m, x, then, y, slice0, slice1);
        else if (m.wide) slices_product<int32_t, Value>(n_samples, m, x, then, y, slice0, slice1);
        else slices_product<uint16_t, Value>(n_samples, m, x, then, y, slice0, slice1);
    });
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
