// A band times one block of a panel, one slice of columns after the other.
#pragma once

#include "band.h"
#include "epilogue.h"

// How many floats of a panel a band reads before the product begins again with the next: half of a usual second-level
// cache (512 KiB).
constexpr int64_t PANEL_FLOATS = 1 << 16;

// panel[column][position] of `width` positions. With a table the columns are offsets of floats, and the width is 1.
struct Panel {
    const float* at;
    int64_t width;
};

// The entries of a band whose columns lie in one slice: for the r-th row of the band from(r) .. to(r), counted from the
// band's first entry. A row's sums continue what the slice before left in y, and are finished after the last slice.
struct Slice {
    const int32_t *begin, *end;  // in the matrix
    int64_t first_entry;         // of the band
    bool is_first, is_last;
    int64_t from(int32_t r) const { return begin[r] - first_entry; }
    int64_t to(int32_t r) const { return end[r] - first_entry; }
};

// The columns of a band cut into slices, of so many columns that what a block reads of them stays in the cache.
struct Slices {
    int64_t size, n_slices;
    Scratch<int32_t> edges;  // between two slices, for every row of a band

    Slices(int64_t n_columns, int64_t columns)
        : size(columns),
          n_slices(larger(1, (n_columns + columns / 4 * 3) / larger(1, columns))),  // the last may be a quarter larger
          edges((n_slices - 1) * BAND_ROWS) {}

    template <class Column>
    void find(const Band& band, const Column* columns) {
        for (int32_t r = band.first; r < band.end; r++) {
            const Column *row = columns + band.entry(r), *end = columns + band.entry(r + 1);
            for (int64_t b = 1; b < n_slices; b++) {
                int32_t n = 0, edge = band.table ? band.table[b * size] : b * size;
                for (const Column* c = row; c < end; c++) n += *c < edge;
                edges.at[(b - 1) * BAND_ROWS + r - band.first] = static_cast<int32_t>(band.rows.begin(r)) + n;
            }
        }
    }

    Slice slice(const Band& band, int64_t b) const {
        const int32_t* starts = band.rows.begins.at + (band.first - band.rows.first);
        bool is_first = b == 0, is_last = b == n_slices - 1;
        return {is_first ? starts : edges.at + (b - 1) * BAND_ROWS, is_last ? starts + 1 : edges.at + b * BAND_ROWS,
                *starts, is_first, is_last};
    }
};

// Adds value * panel[column][0 .. VECTORS * LANES) to the sums. Several chains of additions run side by side, because
// an addition waits for the one before it longer than a processor needs to start the next.
template <int VECTORS, class Column>
INLINE void add_products(const Panel& panel, const Column* column, const float* value, int64_t n, Floats* sums) {
    constexpr int CHAINS = VECTORS == 1 ? 4 : VECTORS < 5 ? 8 / VECTORS : ACCUMULATORS / 8;
    Floats chains[CHAINS][VECTORS] = {};
    for (int i = 0; i < VECTORS; i++) chains[0][i] = sums[i];
    int64_t k = 0;
    for (; k + CHAINS <= n; k += CHAINS)
        for (int c = 0; c < CHAINS; c++)
            for (int i = 0; i < VECTORS; i++)
                chains[c][i] += value[k + c] * load<Floats>(panel.at + column[k + c] * panel.width + i * LANES);
    for (; k < n; k++)
        for (int i = 0; i < VECTORS; i++)
            chains[0][i] += value[k] * load<Floats>(panel.at + column[k] * panel.width + i * LANES);
    for (int c = 1; c < CHAINS; c++)
        for (int i = 0; i < VECTORS; i++) chains[0][i] += chains[c][i];
    for (int i = 0; i < VECTORS; i++) sums[i] = chains[0][i];
}

template <int VECTORS, class Column>
static void slice_product(const Band& band, const Column* columns, const Slice& slice, const Panel& panel,
                          const Epilogue& then, float* y, int64_t y_stride) {
    const float* values = band.values;
    const int32_t n_rows = band.end - band.first;
    for (int32_t r = 0; r < n_rows; r++, y += y_stride) {
        int64_t k = slice.from(r), n = slice.to(r) - k;
        if (VECTORS > 2 && r + 1 < n_rows) {  // the entries of a slice lie apart: the CPU does not foresee the next row
            prefetch_all(values + slice.from(r + 1), values + slice.to(r + 1));
            prefetch_all(columns + slice.from(r + 1), columns + slice.to(r + 1));
            if (!slice.is_first) prefetch_all(y + y_stride, y + y_stride + VECTORS * LANES);
        }
        Floats sums[VECTORS] = {};
        if (!slice.is_first)
            for (int i = 0; i < VECTORS; i++) sums[i] = load<Floats>(y + i * LANES);
        add_products<VECTORS>(panel, columns + k, values + k, n, sums);
        if (slice.is_last) {
            float scale = then.scale(band.first + r), bias = then.bias(band.first + r);
            for (int i = 0; i < VECTORS; i++) sums[i] = finish(sums[i], scale, bias, then.relu);
        }
        for (int i = 0; i < VECTORS; i++) store(y + i * LANES, sums[i]);
    }
}

// The same for the first `n_vectors` vectors of a panel, 1 to MAX_VECTORS.
template <class Column>
static void slice_product(int n_vectors, const Band& band, const Column* columns, const Slice& slice,
                          const Panel& panel, const Epilogue& then, float* y, int64_t y_stride) {
    switch (n_vectors) {
        case 1: return slice_product<1>(band, columns, slice, panel, then, y, y_stride);
        case 2: return slice_product<2>(band, columns, slice, panel, then, y, y_stride);
        case 3: return slice_product<3>(band, columns, slice, panel, then, y, y_stride);
        case 4: return slice_product<4>(band, columns, slice, panel, then, y, y_stride);
        case 5: return slice_product<5>(band, columns, slice, panel, then, y, y_stride);
        case 6: return slice_product<6>(band, columns, slice, panel, then, y, y_stride);
        case 7: return slice_product<7>(band, columns, slice, panel, then, y, y_stride);
        case 8: return slice_product<8>(band, columns, slice, panel, then, y, y_stride);
    }
}
