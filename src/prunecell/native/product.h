// Rows times many positions: bands times blocks.
#pragma once

#include "slice_product.h"

// The usual number of positions in a block, or fewer vectors where there are fewer positions.
static int64_t usual_width(int64_t n_positions) { return smaller(USUAL_BLOCK, round_up(n_positions, LANES)); }

// The rows [r0, r1) times the positions [n0, n1). The first is that of a chunk.
//
// The input makes the panels:
//   width               positions in a block
//   chunk               positions in a panel
//   panel(begin, n)     the panel of the positions [begin, begin + n)
//   table()             null, then a panel is [column][position] of one block; or table[column] is where one starts
//   columns_at_once()   in a slice
//   n_readable_columns  in a panel without a table: those of the matrix, and more where more memory belongs to it
//
// The output takes the sums of a band and a block, rows from `row` on and `n` positions from `s` on:
//   destination(row, s, n)               where they go, if they lie there in whole vectors; else null
//   row_stride()                         between two rows there
//   store_tile(tile, row, n_rows, s, n)  copies them from a tile [row][BLOCK positions]
//
// Returns an Outcome; where a band is damaged the product ends with it.
template <class Column, class Input, class Output>
APART static int32_t product(Band& band, const Column* const& columns, int32_t r0, int32_t r1, int64_t n0, int64_t n1,
                             Input& input, const Epilogue& then, const Output& output) {
    Slices slices(band.matrix.n_columns, input.columns_at_once());
    Scratch<float> tile(smaller(BAND_ROWS, r1 - r0) * BLOCK);
    if (!slices.edges.at || !tile.at) return NO_MEMORY;
    for (int32_t first = r0; first < r1; first = band.end) {
        band.read(first, r1);
        if (!band.sound) return wrong_indices(band.matrix);
        slices.find(band, columns);
        for (int64_t begin = n0, end; begin < n1; begin = end) {
            end = smaller(n1, begin + input.chunk);
            const float* panel_at = input.panel(begin, end - begin);
            for (int64_t s = begin; s < end; s += input.width) {
                int64_t n_here = smaller(input.width, end - s);
                int n_vectors = (n_here + LANES - 1) / LANES;
                Panel panel{panel_at + s - begin, input.table() ? 1 : input.width};
                float* to = n_here % LANES ? nullptr : output.destination(first, s, n_here);
                for (int64_t i = 0; i < slices.n_slices; i++)
                    slice_product(n_vectors, band, columns, slices.slice(band, i), panel, then, to ? to : tile.at,
                                  to ? output.row_stride() : BLOCK);
                if (!to) output.store_tile(tile.at, first, band.end - first, s, n_here);
            }
        }
    }
    return DONE;
}

template <class Input, class Output>
static int32_t product(const Matrix& m, int32_t r0, int32_t r1, int64_t n0, int64_t n1, Input& input,
                       const Epilogue& then, const Output& output) {
    Rows rows(m, r0, r1);
    if (!rows.begins.at) return NO_MEMORY;
    if (!rows.sound) return WRONG_STARTS;
    Band band(m, rows, input.table(), input.n_readable_columns, n1 - n0 <= input.chunk);
    if (!band.has_memory()) return NO_MEMORY;
    return band.has_narrow_columns && !band.table
               ? product(band, band.narrow_columns, r0, r1, n0, n1, input, then, output)
               : product(band, band.wide_columns, r0, r1, n0, n1, input, then, output);
}
