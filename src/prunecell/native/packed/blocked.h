// A matrix packed for products with many positions: cut into blocks of columns whose panel stays in the first-level
// cache, as a dense product is.
//
// Within a block the rows are sorted by their number of entries, so that the CPU foresees where each ends: without that
// blocks make a product slower. A row continues the sums that the block before left, and the last block finishes it.
#pragma once

#include "decoded.h"
#include "memory.h"

// So many neighbouring rows of a block have so many entries each.
struct Run {
    uint16_t n_entries, n_rows;
};

// The entries of some rows in some columns, row after row in the order of `rows`.
template <class Value>
struct BlockOf {
    const Run *runs, *end;
    const uint16_t* rows;     // their numbers within the row block
    const uint16_t* offsets;  // where in the panel an entry's inputs lie, in bytes
    const Value* values;
};
using Block = BlockOf<float>;

struct Blocked {
    int32_t n_rows, n_columns, group_rows, block_rows, block_columns, row_blocks_of_a_group, n_row_blocks, n_column_blocks;
    int64_t n_entries;
    int32_t form = 0;  // of a convolution's panels: see forms.h
    Block* blocks;     // [row block][column block]

    // Row blocks do not cross the groups of a convolution, as these read different channels.
    Blocked(const Matrix& m, int32_t rows_of_a_group, int32_t most_rows, int32_t columns)
        : n_rows(m.n_rows),
          n_columns(m.n_columns),
          group_rows(rows_of_a_group),
          block_rows(smaller(smaller(most_rows, UINT16_MAX), rows_of_a_group)),
          block_columns(columns),
          row_blocks_of_a_group((group_rows + block_rows - 1) / block_rows),
          n_row_blocks(n_rows / group_rows * row_blocks_of_a_group),
          n_column_blocks(larger(1, (int64_t{m.n_columns} + columns - 1) / columns)),
          n_entries(m.n_entries) {}

    int32_t first_row(int32_t i) const {
        return i / row_blocks_of_a_group * group_rows + i % row_blocks_of_a_group * block_rows;
    }
    int32_t end_row(int32_t i) const {
        return smaller((i / row_blocks_of_a_group + 1) * group_rows, int64_t{first_row(i)} + block_rows);
    }
};

// Where the entries of a row in a block go.
struct Piece {
    int32_t n, to;
};

// Writes the numbers of rows sorted by their number of entries; rows with the same number stay in order.
template <class Row, class Count>
static void sort_rows(int32_t n_rows, int32_t most, int32_t* places, Row* sorted, Count n_entries) {
    memset(places, 0, (most + 2) * sizeof(*places));
    for (int32_t r = 0; r < n_rows; r++) places[n_entries(r) + 1]++;
    for (int32_t n = 0; n <= most; n++) places[n + 1] += places[n];
    for (int32_t r = 0; r < n_rows; r++) sorted[places[n_entries(r)]++] = static_cast<Row>(r);
}

// Packs one row block, whose entries are decoded. `offset_of` a column within its block is where the panel has it.
template <class Entries>
static void pack_row_block(const Blocked& m, const Entries& decoded, int32_t r0, int32_t r1, const uint16_t* offset_of,
                           Piece* pieces, int32_t* places, Arena& arena, BlockOf<typename Entries::Value>* blocks) {
    const int32_t n_rows = r1 - r0, n_blocks = m.n_column_blocks;
    auto piece = [&](int32_t r, int32_t b) -> Piece& { return pieces[int64_t{r} * n_blocks + b]; };
    auto for_entries = [&](int32_t r, auto task) {
        const int64_t begin = decoded.begin(r0 + r), end = decoded.begin(r0 + r + 1);
        for (int64_t k = begin; k < end; k++) {
            const int32_t b = decoded.columns.at[k] / m.block_columns;
            task(k, b, decoded.columns.at[k] - b * m.block_columns);
        }
    };
    memset(pieces, 0, sizeof(Piece) * n_rows * n_blocks);
    for (int32_t r = 0; r < n_rows; r++) for_entries(r, [&](int64_t, int32_t b, int32_t) { piece(r, b).n++; });

    const int64_t n_entries = decoded.n_entries;
    auto* values = arena.next<typename Entries::Value>(n_entries);
    auto* offsets = arena.next<uint16_t>(n_entries);
    int32_t n_placed = 0;
    for (int32_t b = 0; b < n_blocks; b++) {
        auto* rows = arena.next<uint16_t>(n_rows + 1);  // the kernel prefetches the sums of one row more
        rows[n_rows] = 0;
        sort_rows(n_rows, m.block_columns, places, rows, [&](int32_t r) { return piece(r, b).n; });
        auto* run = arena.next<Run>(smaller(n_rows, m.block_columns + 1));
        blocks[b] = {run, run, rows, offsets + n_placed, values + n_placed};
        for (int32_t i = 0; i < n_rows; i++) {
            Piece& of = piece(rows[i], b);
            of.to = n_placed, n_placed += of.n;
            if (i == 0 || run[-1].n_entries != of.n) *run++ = {static_cast<uint16_t>(of.n), 0};
            run[-1].n_rows++;
        }
        blocks[b].end = run;
    }
    for (int32_t r = 0; r < n_rows; r++)
        for_entries(r, [&](int64_t k, int32_t b, int32_t column) {
            const int32_t to = piece(r, b).to++;
            values[to] = decoded.values.at[k], offsets[to] = offset_of[column];
        });
}

// The bytes that pack_row_block takes from `arena`.
template <class Value = float>
static void count_row_block(const Blocked& m, int32_t n_rows, int64_t n_entries, Arena& arena) {
    arena.next<Value>(n_entries);
    arena.next<uint16_t>(n_entries);
    for (int32_t b = 0; b < m.n_column_blocks; b++) {
        arena.next<uint16_t>(n_rows + 1);
        arena.next<Run>(smaller(n_rows, m.block_columns + 1));
    }
}

// Packs a matrix whose rows read the same inputs `group_rows` at a time; `offsets` are those of the columns of a block.
// Returns an Outcome or a WRONG: then nothing was packed.
static int32_t pack_blocked(const Matrix& m, int32_t group_rows, int32_t block_rows, int32_t block_columns,
                            const uint16_t* offsets, Packed* packed) {
    const Rows rows(m, 0, m.n_rows);
    if (!rows.begins.at) return NO_MEMORY;
    if (!rows.sound) return WRONG_STARTS;
    Blocked form(m, group_rows, block_rows, block_columns);
    const int64_t n_blocks = int64_t{form.n_row_blocks} * form.n_column_blocks;
    Scratch<Piece> pieces(int64_t{form.block_rows} * form.n_column_blocks);
    Scratch<int32_t> places(block_columns + 2);
    Arena arena;
    auto lay_out = [&](auto row_block) {
        auto* to = arena.next<Blocked>(1);
        auto* blocks = arena.next<Block>(n_blocks);
        for (int32_t i = 0; i < form.n_row_blocks; i++)
            if (int32_t outcome = row_block(form.first_row(i), form.end_row(i), blocks + int64_t{i} * form.n_column_blocks))
                return outcome;
        if (arena.at) memcpy(static_cast<void*>(to), &form, sizeof(form)), to->blocks = blocks;
        return int32_t{DONE};
    };
    lay_out([&](int32_t r0, int32_t r1, Block*) {
        count_row_block(form, r1 - r0, rows.begin(r1) - rows.begin(r0), arena);
        return int32_t{DONE};
    });
    if (!pieces.at || !places.at || !arena.allocate()) return NO_MEMORY;
    int32_t outcome = lay_out([&](int32_t r0, int32_t r1, Block* blocks) {
        Decoded decoded(m, rows, r0, r1);
        if (!decoded.has_memory()) return int32_t{NO_MEMORY};
        if (!decoded.sound) return wrong_indices(m);
        pack_row_block(form, decoded, r0, r1, offsets, pieces.at, places.at, arena, blocks);
        return int32_t{DONE};
    });
    *packed = {arena.at, arena.n_bytes};
    if (outcome) free(arena.at), *packed = {};
    return outcome;
}
