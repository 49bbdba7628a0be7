// A matrix of int8 values packed for products with quantised inputs: its entries are quads, four neighbouring columns of
// a row, of which the first is a multiple of four, in 32 bits. A quad of zeros is left out.
//
// There are two forms, as for products of floats: in blocks of columns (blocked.h) for many samples, in slices for a few.
#pragma once

#include "blocked.h"

constexpr int32_t QUAD = 4;  // columns

// All rows of a matrix as quads, row after row.
struct Quads {
    int32_t n_rows, n_columns;
    Scratch<int64_t> begins;
    Scratch<int32_t> columns, words;
    Scratch<int32_t> row_sums;
    int32_t outcome;

    explicit Quads(const Matrix& m)
        : n_rows(m.n_rows),
          n_columns(static_cast<int32_t>((int64_t{m.n_columns} + QUAD - 1) / QUAD)),
          begins(int64_t{m.n_rows} + 1),
          columns(m.n_entries),
          words(m.n_entries),
          row_sums(m.n_rows) {
        outcome = begins.at && columns.at && words.at && row_sums.at ? decode(m) : int32_t{NO_MEMORY};
    }

    int64_t n() const { return begins.at[n_rows]; }

    int32_t decode(const Matrix& m) {
        const Rows rows(m, 0, n_rows);
        if (!rows.begins.at) return NO_MEMORY;
        if (!rows.sound) return WRONG_STARTS;
        int64_t at = 0;
        for (int32_t r0 = 0; r0 < n_rows; r0 += ROWS_AT_ONCE) {
            const int32_t r1 = static_cast<int32_t>(smaller(n_rows, int64_t{r0} + ROWS_AT_ONCE));
            const Decoded decoded(m, rows, r0, r1);
            if (!decoded.has_memory()) return NO_MEMORY;
            if (!decoded.sound) return wrong_indices(m);
            for (int32_t r = r0; r < r1; r++) {
                begins.at[r] = at;
                at = add_row(decoded, r, at);
            }
        }
        begins.at[n_rows] = at;
        return DONE;
    }

private:
    static constexpr int32_t ROWS_AT_ONCE = 256;

    int64_t add_row(const Decoded& decoded, int32_t r, int64_t at) {
        int32_t sum = 0;
        for (int64_t k = decoded.begin(r), end = decoded.begin(r + 1); k < end;) {
            const int32_t column = decoded.columns.at[k] / QUAD;
            uint32_t word = 0;
            for (; k < end && decoded.columns.at[k] / QUAD == column; k++) {
                const auto value = static_cast<int8_t>(decoded.values.at[k]);
                word |= static_cast<uint32_t>(static_cast<uint8_t>(value)) << 8 * (decoded.columns.at[k] % QUAD);
                sum += value;
            }
            if (word) columns.at[at] = column, words.at[at] = static_cast<int32_t>(word), at++;
        }
        row_sums.at[r] = sum;
        return at;
    }
};

// ---- in blocks -------------------------------------------------------------------------------------------------------

// Quads in a row of a block: their inputs for a tile stay in the first-level cache.
constexpr int32_t BLOCK_QUADS = 128;

// The rows [r0, r1) as pack_row_block takes entries.
struct QuadsOfRows {
    using Value = int32_t;
    struct Array {
        const int32_t* at;
    };
    const Quads& quads;
    int32_t first;
    int64_t n_entries;
    Array columns, values;

    QuadsOfRows(const Quads& of, int32_t r0, int32_t r1)
        : quads(of),
          first(r0),
          n_entries(of.begins.at[r1] - of.begins.at[r0]),
          columns{of.columns.at + of.begins.at[r0]},
          values{of.words.at + of.begins.at[r0]} {}

    int64_t begin(int32_t row) const { return quads.begins.at[row] - quads.begins.at[first]; }
};

using QuadBlock = BlockOf<int32_t>;

// Columns and entries are quads here.
struct BlockedQuads {
    Blocked shape;
    const QuadBlock* blocks;  // [row block][column block]
    const int32_t* firsts;    // what the sum of each row begins with, because the zero of inputs may be another number
    bool has_vnni;
};

// What makes up for inputs whose zero is another number.
static int32_t first_of(const Quads& quads, int32_t row, bool has_vnni) {
    return has_vnni ? -UnsignedBytes::ZERO * quads.row_sums.at[row] : 0;
}

// Packs a matrix of int8 values into row blocks of at most so many rows, for products with VNNI or without. Returns an
// Outcome or a WRONG: then nothing was packed.
EXPORT int32_t pc_block_quads(const Matrix* matrix, int32_t block_rows, int32_t has_vnni, Packed* packed) {
    const Quads quads(*matrix);
    if (quads.outcome) return quads.outcome;
    Matrix sizes = *matrix;
    sizes.n_columns = quads.n_columns, sizes.n_entries = quads.n();
    BlockedQuads form{{sizes, sizes.n_rows, block_rows, BLOCK_QUADS}, nullptr, nullptr, has_vnni != 0};
    const Blocked& shape = form.shape;
    const Scratch<Piece> pieces(int64_t{shape.block_rows} * shape.n_column_blocks);
    const Scratch<int32_t> places(BLOCK_QUADS + 2);
    uint16_t offsets[BLOCK_QUADS];
    for (int32_t q = 0; q < BLOCK_QUADS; q++) offsets[q] = q * USUAL_BLOCK * sizeof(int32_t);
    Arena arena;
    auto lay_out = [&](auto row_block) {
        auto* to = arena.next<BlockedQuads>(1);
        auto* blocks = arena.next<QuadBlock>(int64_t{shape.n_row_blocks} * shape.n_column_blocks);
        auto* firsts = arena.next<int32_t>(shape.n_rows);
        form.blocks = blocks, form.firsts = firsts;
        for (int32_t i = 0; i < shape.n_row_blocks; i++)
            row_block(shape.first_row(i), shape.end_row(i), blocks + int64_t{i} * shape.n_column_blocks);
        if (!arena.at) return;
        memcpy(static_cast<void*>(to), &form, sizeof(form));
        for (int32_t r = 0; r < shape.n_rows; r++) firsts[r] = first_of(quads, r, form.has_vnni);
    };
    lay_out([&](int32_t r0, int32_t r1, QuadBlock*) {
        count_row_block<int32_t>(shape, r1 - r0, quads.begins.at[r1] - quads.begins.at[r0], arena);
    });
    if (!pieces.at || !places.at || !arena.allocate()) return NO_MEMORY;
    lay_out([&](int32_t r0, int32_t r1, QuadBlock* blocks) {
        pack_row_block(shape, QuadsOfRows(quads, r0, r1), r0, r1, offsets, pieces.at, places.at, arena, blocks);
    });
    *packed = {arena.at, arena.n_bytes};
    return DONE;
}

// ---- in slices -------------------------------------------------------------------------------------------------------

// As in sliced.h: a row in each lane. Lanes whose row ends before the slice have quads of zeros.
struct SlicedQuads {
    int32_t n_rows, n_columns, n_slices;
    int64_t n_steps;
    const int64_t* first_steps;  // n_slices + 1
    const int32_t* rows;         // n_slices * LANES; -1 where there is none
    const int32_t* firsts;       // the same order: see BlockedQuads
    const uint16_t* columns;     // [step][lane]
    const int32_t* words;        // [step][lane]
    bool has_vnni;
};

// Columns of quads that a slice can name.
constexpr int32_t MOST_QUADS = 1 << 16;

static void fill_slice(const Quads& quads, int32_t row, int lane, int64_t n_steps, uint16_t* columns, int32_t* words) {
    int64_t k = row < 0 ? 0 : quads.begins.at[row];
    const int64_t end = row < 0 ? 0 : quads.begins.at[row + 1];
    for (int64_t to = lane; to < n_steps * LANES; to += LANES, k++) {
        columns[to] = k < end ? static_cast<uint16_t>(quads.columns.at[k]) : 0;
        words[to] = k < end ? quads.words.at[k] : 0;
    }
}

// Packs a matrix of int8 values and up to MOST_QUADS quads a row into slices. Returns as pc_block_quads.
EXPORT int32_t pc_slice_quads(const Matrix* matrix, int32_t has_vnni, Packed* packed) {
    const Quads quads(*matrix);
    if (quads.outcome) return quads.outcome;
    const int32_t n_rows = quads.n_rows;
    auto length = [&](int32_t r) { return static_cast<int32_t>(quads.begins.at[r + 1] - quads.begins.at[r]); };
    const Scratch<int32_t> sorted(n_rows), counts(int64_t{quads.n_columns} + 2);
    if (!sorted.at || !counts.at) return NO_MEMORY;
    sort_rows(n_rows, quads.n_columns, counts.at, sorted.at, length);
    SlicedQuads form{n_rows, quads.n_columns, static_cast<int32_t>((n_rows + int64_t{LANES} - 1) / LANES), 0,
                     nullptr, nullptr, nullptr, nullptr, nullptr, has_vnni != 0};
    auto steps_of = [&](int32_t slice) {
        return length(sorted.at[smaller((slice + 1) * int64_t{LANES}, n_rows) - 1]);
    };
    for (int32_t slice = 0; slice < form.n_slices; slice++) form.n_steps += steps_of(slice);
    Arena arena;
    int64_t* first_steps;
    int32_t *rows, *firsts, *words;
    uint16_t* columns;
    auto lay_out = [&] {
        auto* to = arena.next<SlicedQuads>(1);
        form.first_steps = first_steps = arena.next<int64_t>(form.n_slices + 1);
        form.rows = rows = arena.next<int32_t>(int64_t{form.n_slices} * LANES);
        form.firsts = firsts = arena.next<int32_t>(int64_t{form.n_slices} * LANES);
        form.columns = columns = arena.next<uint16_t>(form.n_steps * LANES);
        form.words = words = arena.next<int32_t>(form.n_steps * LANES);
        return to;
    };
    lay_out();
    if (!arena.allocate()) return NO_MEMORY;
    memcpy(static_cast<void*>(lay_out()), &form, sizeof(form));
    first_steps[0] = 0;
    for (int32_t slice = 0; slice < form.n_slices; slice++) {
        const int64_t begin = first_steps[slice], n_steps = steps_of(slice);
        first_steps[slice + 1] = begin + n_steps;
        for (int lane = 0; lane < LANES; lane++) {
            const int64_t i = int64_t{slice} * LANES + lane;
            rows[i] = i < n_rows ? sorted.at[i] : -1;
            firsts[i] = rows[i] < 0 ? 0 : first_of(quads, rows[i], form.has_vnni);
            fill_slice(quads, rows[i], lane, n_steps, columns + begin * LANES, words + begin * LANES);
        }
    }
    *packed = {arena.at, arena.n_bytes};
    return DONE;
}
