// Quads times quantised samples: a block of them times a panel, or a slice times a few samples.
//
// Bytes is a way to multiply bytes (instructions.h). The panel has in [quad of columns][position] four bytes.
#pragma once

#include "block_product.h"
#include "quads.h"

// What a row block does with one block: as Step, with sums of 32 bits.
struct QuadStep {
    const char* panel;
    int32_t* sums;        // [row][VECTORS], where one block leaves them for the next; the last one leaves floats
    const int32_t* firsts;  // what the sums of the row block begin with
    const float* steps;     // of each position
    int32_t first_row;
    bool is_first, is_last;
};

// sum * scale * step + bias, then max(0, .) where asked. A product and an addition that became one operation would round
// once less.
template <class Factor>
INLINE Floats dequantised(Ints sum, Floats step, Factor scale, Factor bias, bool relu) {
    const Floats y = settled(__builtin_convertvector(sum, Floats) * scale * step) + bias;
    return relu ? y < 0 ? Floats{} : y : y;
}

template <class Bytes, int VECTORS, int ROWS>
INLINE void quad_rows_product(const uint16_t* row, const uint16_t* offset, const int32_t* word, int n,
                              const QuadStep& step, const Epilogue& then, const Target& target) {
    Ints sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++)
            sums[r][v] = step.is_first ? step.firsts[row[r]] - Ints{}
                                       : load<Ints>(step.sums + (row[r] * VECTORS + v) * LANES);
    if (VECTORS <= 4 && !step.is_first) {
        const int32_t* next = step.sums + row[ROWS] * VECTORS * LANES;
        prefetch_all(next, next + VECTORS * LANES);
    }
    for (int k = 0; k < n; k++)
        for (int r = 0; r < ROWS; r++) {
            const char* inputs = settled(step.panel + offset[r * n + k]);
            const Bytes factor(word[r * n + k] - Ints{});
            for (int v = 0; v < VECTORS; v++)
                sums[r][v] = factor.added(sums[r][v], load<Ints>(inputs + v * sizeof(Ints)));
        }
    for (int r = 0; r < ROWS; r++) {
        if (!step.is_last) {
            for (int v = 0; v < VECTORS; v++) store(step.sums + (row[r] * VECTORS + v) * LANES, sums[r][v]);
            continue;
        }
        const float scale = then.scale(step.first_row + row[r]), bias = then.bias(step.first_row + row[r]);
        float* to = target.at + row[r] * target.row_stride;
        for (int v = 0; v < VECTORS; v++)
            store(to + target.places.at[v],
                  dequantised(sums[r][v], load<Floats>(step.steps + v * LANES), scale, bias, then.relu));
    }
}

template <class Bytes, int VECTORS>
APART static void quad_block_product(const QuadBlock& block, const QuadStep& step, const Epilogue& then,
                                     const Target& target) {
    constexpr int ROWS = VECTORS == 1 ? 4 : VECTORS < 4 ? 2 : 1;  // see block_product
    const uint16_t *row = block.rows, *offset = block.offsets;
    const int32_t* word = block.values;
    for (const Run* run = block.runs; run < block.end; run++) {
        const int n = run->n_entries;
        int n_rows = run->n_rows;
        if (n == 0 && !step.is_first && !step.is_last) {
            row += n_rows;
            continue;
        }
        prefetch(word + 1024), prefetch(offset + 1024);
        for (; n_rows >= ROWS; n_rows -= ROWS, row += ROWS, offset += ROWS * n, word += ROWS * n)
            quad_rows_product<Bytes, VECTORS, ROWS>(row, offset, word, n, step, then, target);
        for (; n_rows > 0; n_rows--, row++, offset += n, word += n)
            quad_rows_product<Bytes, VECTORS, 1>(row, offset, word, n, step, then, target);
    }
}

using QuadBlockProduct = void (*)(const QuadBlock&, const QuadStep&, const Epilogue&, const Target&);

// The product for so many vectors, 1 to those of a tile.
template <class Bytes, int VECTORS = USUAL_BLOCK / LANES>
static QuadBlockProduct quad_block_product_of(int n_vectors) {
    if constexpr (VECTORS > 1)
        if (n_vectors < VECTORS) return quad_block_product_of<Bytes, VECTORS - 1>(n_vectors);
    return quad_block_product<Bytes, VECTORS>;
}

// Quantised samples side by side, and the step of each.
struct QuantisedSamples {
    const int8_t* at;
    int64_t stride;
    const float* steps;
};

template <class Bytes, int SAMPLES>
APART static void quad_slices_product(const SlicedQuads& m, const QuantisedSamples& x, const Epilogue& then,
                                      float* y, int32_t slice0, int32_t slice1) {
    const int32_t* samples[SAMPLES];
    for (int s = 0; s < SAMPLES; s++) samples[s] = reinterpret_cast<const int32_t*>(x.at + s * x.stride);
    for (int32_t slice = slice0; slice < slice1; slice++) {
        const int32_t* row = m.rows + int64_t{slice} * LANES;
        Ints even[SAMPLES], odd[SAMPLES] = {};
        for (int s = 0; s < SAMPLES; s++) even[s] = load<Ints>(m.firsts + int64_t{slice} * LANES);
        auto add = [&](int64_t step, Ints* to) INLINED {
            const uint16_t* columns = m.columns + step * LANES;
            const Bytes factor(load<Ints>(m.words + step * LANES));
            prefetch(m.words + step * LANES + 1024), prefetch(columns + 1024);
            for (int s = 0; s < SAMPLES; s++) to[s] = factor.added(to[s], gather_words(samples[s], columns));
        };
        int64_t step = m.first_steps[slice];
        const int64_t end = m.first_steps[slice + 1];
        for (; step + 2 <= end; step += 2) add(step, even), add(step + 1, odd);
        if (step < end) add(step, even);
        const Words rows = load<Words>(row);
        const Floats scale = then.scales_of(rows, m.n_rows), bias = then.biases_of(rows, m.n_rows);
        for (int s = 0; s < SAMPLES; s++) {
            float results[LANES];
            store(results, dequantised(even[s] + odd[s], all(x.steps[s]), scale, bias, then.relu));
            float* to = y + int64_t{s} * m.n_rows;
            for (int lane = 0; lane < LANES && row[lane] >= 0; lane++) to[row[lane]] = results[lane];
        }
    }
}
