// How the panels of a blocked convolution are laid out, and which form is fastest.
//
// A tile is the outputs that are computed at once, in vectors of LANES positions. A panel holds what a tile reads of some
// channels, in cells of LANES floats. Under every kernel position the cells of the vectors of a tile are neighbours, so
// a kernel position is an offset, and all loads are aligned.
//
// ROWS: a tile is a rectangle of a plane of outputs, and every row of vectors is one output row, or several narrow ones.
// A panel is [channel][kernel plane][kernel column][slot][vector of a row]. A slot holds what a row of vectors reads
// under a kernel row; where kernel rows are as far apart as rows of vectors, they share slots.
//
// IN_TURN: ROWS with two vectors in a row, of which one has the even positions, the other the odd ones. What a kernel
// column reads for the odd ones, the next reads for the even ones. A panel is [channel][kernel plane][one of kernel
// columns + 1][slot].
//
// PLAIN: a tile is neighbouring positions, across rows and samples: for small pictures. A panel is [column of the
// matrix][vector].
#pragma once

#include <numeric>

#include "../convolution/geometry.h"
#include "block_product.h"

enum FormKind : int32_t { ROWS = 1, IN_TURN = 2, PLAIN = 3 };

// A form is a number, so that a caller can keep a packed matrix for each.
struct Form {
    int32_t kind, n_vectors, n_rows, packed_rows;  // vectors of a row, rows of vectors, output rows in a vector

    static Form of(int32_t number) { return {number >> 24, number >> 16 & 255, number >> 8 & 255, number & 255}; }
    int32_t number() const { return kind << 24 | n_vectors << 16 | n_rows << 8 | packed_rows; }
    int32_t tile_vectors() const { return n_vectors * n_rows; }
};

// The bytes of a panel: it stays in the first-level cache, beside what else the product reads.
constexpr int64_t PANEL_BYTES = 32 << 10, CELL_BYTES = sizeof(Floats);

// A convolution with a form.
struct Panels {
    Geometry g;
    Form form;

    Panels(const Geometry& geometry, Form with) : g(as_one_row(geometry)), form(with) {}

    // task(kernel row, slot, n_shared): the first of the slots that a kernel row reads, [slot, slot + n_rows), and how
    // many of them an earlier kernel row reads too. Returns the number of slots.
    template <class Task>
    INLINED int64_t for_kernel_rows(Task task) const {
        const int64_t dilation = g.dilation[HEIGHT], row_step = int64_t{form.packed_rows} * g.stride[HEIGHT];
        const int64_t period = row_step / std::gcd(row_step, dilation), advance = period * dilation / row_step;
        int64_t end = 0;
        for (int64_t first = 0; first < smaller(period, g.kernel[HEIGHT]); first++)
            for (int64_t kh = first, n_shared = 0; kh < g.kernel[HEIGHT]; kh += period) {
                task(kh, end - n_shared, n_shared);
                end += form.n_rows - n_shared;
                n_shared = larger(0, form.n_rows - advance);
            }
        return end;
    }

    int64_t n_slots() const {
        return for_kernel_rows([](int64_t, int64_t, int64_t) {});
    }

    // The slots of a kernel plane stand in a channel once for every kernel column, or once more.
    int64_t planes() const { return g.kernel[WIDTH] + (form.kind == IN_TURN ? 1 : 0); }
    int64_t vectors_of_slot() const { return form.kind == IN_TURN ? 1 : form.n_vectors; }

    int64_t cells_of_channel() const {
        if (form.kind == PLAIN) return g.kernel_volume() * form.n_vectors;
        return int64_t{g.kernel[DEPTH]} * planes() * n_slots() * vectors_of_slot();
    }

    // A block has as many parts as fit: channels, or single columns where a channel is too large.
    bool has_whole_channels() const { return form.kind != PLAIN || cells_of_channel() * CELL_BYTES <= PANEL_BYTES; }
    int64_t parts_of_channel() const { return has_whole_channels() ? 1 : g.kernel_volume(); }
    int64_t cells_of_part() const { return has_whole_channels() ? cells_of_channel() : form.n_vectors; }
    int64_t columns_of_part() const { return has_whole_channels() ? g.kernel_volume() : 1; }
    int64_t n_parts() const { return g.group_channels() * parts_of_channel(); }

    // Equal blocks, of as many parts as their panel has room for.
    int64_t parts_of_block() const {
        const int64_t most = larger(1, PANEL_BYTES / CELL_BYTES / cells_of_part());
        const int64_t n_blocks = larger(1, (n_parts() + most - 1) / most);
        return larger(1, (n_parts() + n_blocks - 1) / n_blocks);
    }

    // The offsets of the columns of a block, in bytes.
    void find_offsets(uint16_t* offsets) const {
        const int64_t n_parts = parts_of_block(), n_columns = columns_of_part();
        auto set = [&](int64_t column, int64_t cell) {
            for (int64_t part = 0; part < n_parts; part++)
                offsets[part * n_columns + column] = static_cast<uint16_t>((part * cells_of_part() + cell) * CELL_BYTES);
        };
        if (form.kind == PLAIN) {
            for (int64_t column = 0; column < n_columns; column++) set(column, column * form.n_vectors);
            return;
        }
        const int64_t slots = n_slots();
        for (int64_t kd = 0; kd < g.kernel[DEPTH]; kd++)
            for (int64_t kw = 0; kw < g.kernel[WIDTH]; kw++)
                for_kernel_rows([&](int64_t kh, int64_t slot, int64_t) {
                    set((kd * g.kernel[HEIGHT] + kh) * g.kernel[WIDTH] + kw,
                        ((kd * planes() + kw) * slots + slot) * vectors_of_slot());
                });
    }

    // ---- tiles -------------------------------------------------------------------------------------------------------

    int64_t vectors_of_row() const { return (g.out[WIDTH] + LANES - 1) / LANES; }
    int64_t rows_of_plane() const { return (g.out[HEIGHT] + form.packed_rows - 1) / form.packed_rows; }  // of vectors
    int64_t tile_columns() const { return (vectors_of_row() + form.n_vectors - 1) / form.n_vectors; }
    int64_t tile_rows() const { return (rows_of_plane() + form.n_rows - 1) / form.n_rows; }
    int64_t n_vectors(int64_t n_samples) const { return (n_samples * g.out_volume() + LANES - 1) / LANES; }

    int64_t n_tiles(int64_t n_samples) const {
        if (form.kind == PLAIN) return (n_vectors(n_samples) + form.n_vectors - 1) / form.n_vectors;
        return n_samples * g.out[DEPTH] * tile_rows() * tile_columns();
    }

    // ---- how long it takes -------------------------------------------------------------------------------------------

    // About how many nanoseconds a group with so many entries takes: fitted to 3,000 measured times, of which it meets
    // half to 15 %. The form that it chooses takes 1.5 % longer than the best, on the average. What a form costs: its
    // entries; the sums of every row, which are loaded and stored again for every block; the copies of every channel; and
    // finding out what is to be copied, for every tile.
    double cost(int64_t n_samples, double n_entries) const {
        constexpr bool IS_WIDE = LANES > 8;
        const double vectors = average_vectors(n_samples);
        const double entry = form.tile_vectors() == 1  ? (IS_WIDE ? 0.55 : 0.5)
                             : form.tile_vectors() < 4 ? (IS_WIDE ? 0.22 + 0.235 * vectors : 0.25 + 0.135 * vectors)
                                                       : (IS_WIDE ? 0.2 + 0.207 * vectors : 0.22 + 0.14 * vectors);
        const double sums = IS_WIDE ? 1.3 * vectors : 1.5 + 0.85 * vectors;
        const double parts = cells_of_channel() * parts_of_cell();
        const double part = (IS_WIDE ? 1.4 : 0.85) + (g.stride[WIDTH] == 1 ? 0 : IS_WIDE ? 0.6 : 1.3);
        const int64_t in_a_block = parts_of_block(), n_blocks = (n_parts() + in_a_block - 1) / in_a_block;
        return n_tiles(n_samples) * (n_entries * entry + n_blocks * g.group_rows() * sums +
                                     parts * (g.group_channels() * part + 8) + 600);
    }

    double average_vectors(int64_t n_samples) const {
        const auto n = static_cast<double>(n_tiles(n_samples));
        if (form.kind == PLAIN) return n_vectors(n_samples) / n;
        const auto in_a_row = static_cast<double>(form.n_rows == 1 ? vectors_of_row() : form.n_vectors * tile_columns());
        return in_a_row * rows_of_plane() * g.out[DEPTH] * n_samples / n;
    }

    // Of how many parts a cell consists: rows of the picture, or one where they lie as far apart as the outputs. Where
    // rows lie across cells, copying them takes longer.
    double parts_of_cell() const {
        const bool is_one = g.has_unit_strides() && g.out[WIDTH] == g.size[WIDTH];
        if (form.kind != PLAIN) return is_one ? 1 : form.packed_rows;
        const double rows = !is_one && g.out[WIDTH] % LANES ? 1 + (LANES - 1.0) / g.out[WIDTH] : 1;
        return g.kernel_volume() == 1 ? rows : 1.3 * rows;
    }
};

// The fastest form for a convolution.
static Form best_form(const Geometry& geometry, int64_t n_samples, int64_t n_entries) {
    const Geometry g = as_one_row(geometry);
    Form best{};
    double least = 0;
    auto consider = [&](Form form) {
        const Panels panels(geometry, form);
        if (form.kind != PLAIN && panels.cells_of_channel() * CELL_BYTES > PANEL_BYTES) return;
        const double cost = panels.cost(n_samples, double(n_entries) / g.groups);
        if (best.kind == 0 || cost < least) best = form, least = cost;
    };
    for (int32_t v = 1; v <= 8; v *= 2) consider({PLAIN, v, 1, 1});
    const int64_t most = smaller(MOST_VECTORS, Panels(geometry, {ROWS, 1, 1, 1}).vectors_of_row());
    const auto packed = static_cast<int32_t>(smaller(larger(1, LANES / g.out[WIDTH]), g.out[HEIGHT]));
    for (int32_t v = 1; v <= most; v++)
        for (int32_t rows = 1; rows * v <= MOST_VECTORS; rows++) {
            consider({ROWS, v, rows, packed});
            if (v == 2 && HAS_INTERLEAVE && g.kernel[WIDTH] > 1 && g.stride[WIDTH] == 1 && g.dilation[WIDTH] == 1)
                consider({IN_TURN, v, rows, 1});
            if (int64_t{rows} * packed >= g.out[HEIGHT]) break;
        }
    return best;
}
