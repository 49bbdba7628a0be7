// A block times the panel of its columns.
#pragma once

#include "../epilogue.h"
#include "blocked.h"

// The vectors of positions that a product can keep in registers: an entry's value and a panel's address need two more.
constexpr int MOST_VECTORS = LANES > 4 ? 14 : 8;

// Where the vectors of a row go, and how many lanes of each are there. They are stored in ascending order, so one may
// reach into the place of the next.
struct Places {
    int64_t at[MOST_VECTORS];
    int n_lanes[MOST_VECTORS];

    // Neighbouring vectors, of which the last is short.
    static Places in_a_row(int n_vectors, int64_t n) {
        Places places;
        for (int v = 0; v < n_vectors; v++)
            places.at[v] = v * LANES, places.n_lanes[v] = static_cast<int>(smaller(LANES, n - v * LANES));
        return places;
    }
};

// Where the finished sums of a row block go: vector v of row r to at + r * row_stride + places.at[v].
struct Target {
    float* at;
    int64_t row_stride;
    const Places& places;
};

// What a row block does with one block. Vectors are neighbours in the panel, or in PLANES equal parts, of which
// neighbours are `plane` bytes apart. With two planes one has the even positions of two vectors, the other the odd ones.
struct Step {
    const char* panel;
    float* sums;  // [row][VECTORS], where one block leaves them for the next
    int32_t first_row;
    bool is_first, is_last;
    int64_t plane = 0;
};

// Adds the products of the entries of ROWS rows, of which each has n.
template <int VECTORS, int PLANES, int ROWS>
INLINE void add_rows(const Step& step, const uint16_t* offset, const float* value, int n, Floats (&sums)[ROWS][VECTORS]) {
    constexpr int N = VECTORS / PLANES;
    const char* panel = step.panel;
    const int64_t plane = step.plane;
    for (int k = 0; k < n; k++)
        for (int r = 0; r < ROWS; r++) {
            const char* inputs = settled(panel + offset[r * n + k]);
            const Floats factor = all(value[r * n + k]);
            for (int v = 0; v < N; v++) sums[r][v] += factor * load<Floats>(inputs + v * sizeof(Floats));
            if constexpr (PLANES > 1) {
                inputs = settled(inputs + plane);
                for (int v = 0; v < N; v++) sums[r][N + v] += factor * load<Floats>(inputs + v * sizeof(Floats));
            }
        }
}

template <int VECTORS, int PLANES>
INLINE void finish_row(const Floats (&sums)[VECTORS], int32_t row, const Step& step, const Epilogue& then,
                       const Target& target) {
    const float scale = then.scale(step.first_row + row), bias = then.bias(step.first_row + row);
    float* to = target.at + row * target.row_stride;
    Floats finished[VECTORS];
    for (int v = 0; v < VECTORS; v++) finished[v] = finish(sums[v], scale, bias, then.relu);
    for (int v = 0; v < VECTORS; v++) {
        Floats y = finished[v];
        if constexpr (PLANES > 1) {
            const Floats even = finished[v / 2], odd = finished[VECTORS / 2 + v / 2];
            y = v % 2 ? interleave_higher(even, odd) : interleave_lower(even, odd);
        }
        const int n = target.places.n_lanes[v];
        if (n == LANES)
            store(to + target.places.at[v], y);
        else
            store_first(to + target.places.at[v], y, n);
    }
}

template <int VECTORS, int PLANES, int ROWS>
INLINE void rows_product(const uint16_t* row, const uint16_t* offset, const float* value, int n, const Step& step,
                         const Epilogue& then, const Target& target) {
    Floats sums[ROWS][VECTORS] = {};
    if (!step.is_first)
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++)
                sums[r][v] = load<Floats>(step.sums + (row[r] * VECTORS + v) * LANES);
    if (VECTORS <= 4 && !step.is_first) {
        const float* next = step.sums + row[ROWS] * VECTORS * LANES;
        prefetch_all(next, next + VECTORS * LANES);
    }
    add_rows<VECTORS, PLANES>(step, offset, value, n, sums);
    for (int r = 0; r < ROWS; r++)
        if (step.is_last)
            finish_row<VECTORS, PLANES>(sums[r], row[r], step, then, target);
        else
            for (int v = 0; v < VECTORS; v++) store(step.sums + (row[r] * VECTORS + v) * LANES, sums[r][v]);
}

template <int VECTORS, int PLANES>
APART static void block_product(const Block& block, const Step& step, const Epilogue& then, const Target& target) {
    // Few vectors are few chains of additions, which wait for each other: then several rows go side by side.
    constexpr int ROWS = VECTORS == 1 ? 4 : VECTORS < 4 ? 2 : 1;
    const uint16_t *row = block.rows, *offset = block.offsets;
    const float* value = block.values;
    for (const Run* run = block.runs; run < block.end; run++) {
        const int n = run->n_entries;
        int n_rows = run->n_rows;
        if (n == 0 && !step.is_first && !step.is_last) {
            row += n_rows;
            continue;
        }
        prefetch(value + 1024), prefetch(offset + 1024);
        for (; n_rows >= ROWS; n_rows -= ROWS, row += ROWS, offset += ROWS * n, value += ROWS * n)
            rows_product<VECTORS, PLANES, ROWS>(row, offset, value, n, step, then, target);
        for (; n_rows > 0; n_rows--, row++, offset += n, value += n)
            rows_product<VECTORS, PLANES, 1>(row, offset, value, n, step, then, target);
    }
}

using BlockProduct = void (*)(const Block&, const Step&, const Epilogue&, const Target&);

// The product for so many vectors, 1 to MOST_VECTORS. With two PLANES their number must be even.
template <int PLANES = 1, int VECTORS = MOST_VECTORS>
static BlockProduct block_product_of(int n_vectors) {
    if constexpr (VECTORS > PLANES)
        if (n_vectors < VECTORS) return block_product_of<PLANES, VECTORS - PLANES>(n_vectors);
    return block_product<VECTORS, PLANES>;
}
