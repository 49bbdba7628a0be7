// The tiles of a blocked convolution: their panels, and where their outputs go.
#pragma once

#include "forms.h"
#include "strips.h"

// One tile at a time.
struct Tiles {
    const Panels& panels;
    const Geometry& g;
    Form form;
    int64_t n_samples;
    Strips strips;
    Scratch<int64_t> begins;  // of the strips of a part of a channel
    Scratch<float> panel;

    // Of the tile that was chosen last.
    int n_vectors = 0;
    Coordinates first{};
    Places places{};
    bool is_direct = true;  // whether every vector goes to one place of the output

    Tiles(const Panels& of, int64_t samples, const void* x, int32_t type)
        : panels(of),
          g(of.g),
          form(of.form),
          n_samples(samples),
          strips(g, samples, x, type, most_strips(of)),
          begins(of.parts_of_channel() + 1),
          panel(of.parts_of_block() * of.cells_of_part() * LANES + LANES) {}

    static int64_t most_strips(const Panels& of) {
        if (of.form.kind == IN_TURN) return round_up(of.planes(), 2) * of.g.kernel[DEPTH] * of.n_slots();
        return of.cells_of_channel() * (of.form.kind == PLAIN ? LANES : of.form.packed_rows);
    }

    bool has_memory() const { return strips.at.at && begins.at && panel.at; }

    void choose(int64_t tile) {
        strips.clear();
        if (form.kind == PLAIN)
            choose_plain(tile);
        else
            choose_rows(tile);
    }

    // ---- rows --------------------------------------------------------------------------------------------------------

    void choose_rows(int64_t tile) {
        const int64_t n_columns = panels.tile_columns(), n_rows = panels.tile_rows();
        const int64_t column = tile % n_columns, row = tile / n_columns % n_rows;
        const int64_t of_planes = tile / n_columns / n_rows;
        // Equal tiles, instead of a small last one.
        const int64_t width = panels.vectors_of_row(), height = panels.rows_of_plane();
        const int64_t v0 = width * column / n_columns, v1 = width * (column + 1) / n_columns;
        const int64_t r0 = height * row / n_rows, r1 = height * (row + 1) / n_rows;
        first.sample = of_planes / g.out[DEPTH], first.d = of_planes % g.out[DEPTH];
        first.h = r0 * form.packed_rows, first.w = v0 * LANES;
        n_vectors = static_cast<int>(r1 - r0 == 1 && form.kind == ROWS ? v1 - v0 : (r1 - r0) * form.n_vectors);
        // A vector of a whole row may reach into the next ones, which are stored later; but no tile writes another's.
        const int64_t end_row = smaller(g.out[HEIGHT] - first.h, (r1 - r0) * form.packed_rows);
        const int64_t end_column = smaller(g.out[WIDTH], v1 * LANES) - first.w;
        for (int v = 0; v < n_vectors; v++) {
            const int64_t h = v / form.n_vectors * form.packed_rows, w = v % form.n_vectors * LANES;
            places.at[v] = h * g.out[WIDTH] + w;
            const int64_t n = n_columns == 1 ? end_row * g.out[WIDTH] - places.at[v] : end_column - w;
            places.n_lanes[v] = static_cast<int>(larger(0, smaller(LANES, n)));
        }
        find_rows();
    }

    void find_rows() {
        const int64_t n_planes = panels.planes(), plane = panels.n_slots() * panels.vectors_of_slot() * LANES;
        const bool in_turn = form.kind == IN_TURN;
        for (int64_t kd = 0; kd < g.kernel[DEPTH]; kd++)
            for (int64_t k = 0; k < n_planes; k += in_turn ? 2 : 1) {
                const int64_t kw = in_turn ? smaller(k, n_planes - 2) : k;  // of an odd number one is copied twice
                const int64_t to = (kd * n_planes + kw) * plane;
                for (int64_t v = 0; v < panels.vectors_of_slot(); v++)
                    panels.for_kernel_rows([&](int64_t kh, int64_t slot, int64_t n_shared) {
                        for (int64_t r = n_shared; r < form.n_rows; r++)
                            if (in_turn)
                                add_pair(r, kd, kh, kw, to + (slot + r) * LANES, plane);
                            else
                                add_cell(r * form.packed_rows, v, kd, kh, kw, to + ((slot + r) * form.n_vectors + v) * LANES);
                    });
            }
        begins.at[0] = 0, begins.at[1] = strips.n;
    }

    // What a vector of a row, or of several narrow ones, reads under one kernel position.
    INLINED void add_cell(int64_t row, int64_t v, int64_t kd, int64_t kh, int64_t kw, int64_t to) {
        Coordinates o = first;
        o.h += row, o.w += v * LANES;
        strips.begin_cell();
        for (int32_t i = 0; i < form.packed_rows; i++, o.h++) {
            const int64_t lane = i * g.out[WIDTH];
            strips.add(o, lane, smaller(LANES - lane, g.out[WIDTH] - o.w), kd, kh, kw, to);
        }
        strips.end_cell();
    }

    // The same for the even and for the odd ones of the row's positions.
    INLINED void add_pair(int64_t row, int64_t kd, int64_t kh, int64_t kw, int64_t to, int64_t plane) {
        Coordinates o = first;
        o.h += row;
        strips.begin_cell();
        strips.add(o, 0, LANES, kd, kh, kw, to);
        o.w += LANES;
        strips.add(o, 0, LANES, kd, kh, kw, to + plane);
        strips.end_cell();
    }

    // ---- plain -------------------------------------------------------------------------------------------------------

    void choose_plain(int64_t tile) {
        const int64_t n_tiles = panels.n_tiles(n_samples), n = panels.n_vectors(n_samples), volume = g.out_volume();
        const int64_t v0 = n * tile / n_tiles, s = v0 * LANES;
        n_vectors = static_cast<int>(n * (tile + 1) / n_tiles - v0);
        first = Coordinates(g, s);
        is_direct = true;
        for (int v = 0; v < n_vectors; v++) {
            const int64_t at = s + v * LANES, n_lanes = smaller(LANES, n_samples * volume - at);
            is_direct &= at % volume + n_lanes <= volume;
            places.at[v] = v * LANES + (at / volume - first.sample) * (g.out_channels - 1) * volume;
            places.n_lanes[v] = static_cast<int>(n_lanes);
        }
        find_positions();
    }

    void find_positions() {
        int64_t to = 0, k = 0;
        for (int64_t kd = 0; kd < g.kernel[DEPTH]; kd++)
            for (int64_t kh = 0; kh < g.kernel[HEIGHT]; kh++)
                for (int64_t kw = 0; kw < g.kernel[WIDTH]; kw++, k++, to += form.n_vectors * LANES) {
                    if (!panels.has_whole_channels()) begins.at[k] = strips.n, to = 0, strips.interrupt();
                    Coordinates o = first;
                    for (int v = 0; v < n_vectors; v++) {
                        strips.begin_cell();
                        for (int64_t lane = 0, n_here; lane < LANES; lane += n_here, o.advance(g, n_here)) {
                            n_here = smaller(LANES - lane, g.out[WIDTH] - o.w);
                            strips.add(o, lane, n_here, kd, kh, kw, to + v * LANES);
                        }
                        strips.end_cell();
                    }
                }
        if (panels.has_whole_channels()) begins.at[0] = 0;
        begins.at[panels.parts_of_channel()] = strips.n;
    }

    // ---- what the product needs --------------------------------------------------------------------------------------

    // The bytes between the parts of a panel that have the even and the odd positions.
    int64_t plane() const { return panels.n_slots() * CELL_BYTES; }

    BlockProduct product() const {
        return form.kind == IN_TURN ? block_product_of<2>(n_vectors) : block_product_of(n_vectors);
    }

    // The panel of the parts [begin, end) of the group whose first channel is given.
    APART const float* panel_of(int64_t channel, int64_t begin, int64_t end) const {
        const int64_t n_floats = panels.cells_of_part() * LANES, n_parts = panels.parts_of_channel();
        float* to = panel.at;
        if (form.kind == IN_TURN)
            strips.copy_in_turn(channel + begin, end - begin, to, n_floats);
        else if (n_parts == 1)
            strips.copy(channel + begin, end - begin, 0, strips.n, to, n_floats);
        else
            for (int64_t part = begin; part < end; part++, to += n_floats) {
                const int64_t i = part % n_parts;
                strips.copy(channel + part / n_parts, 1, begins.at[i], begins.at[i + 1], to, n_floats);
            }
        return panel.at;
    }

    // Whether the products can store every vector where it belongs.
    bool is_direct_of_floats() const { return is_direct && strips.type == FLOAT32; }

    // Where the first of a tile's outputs of a channel is.
    int64_t output(int64_t row) const {
        return (first.sample * g.out_channels + row) * g.out_volume() + g.position(first.d, first.h, first.w);
    }

    // Stores rows of sums [row][vector], from `row` on, where the products could not.
    void store_sums(const float* sums, int32_t row, int32_t n_rows, void* y) const {
        with_operand_type(strips.type, [&](auto of) {
            if (is_direct) store_vectors<decltype(of)>(sums, row, n_rows, y);
            else store_segments<decltype(of)>(sums, row, n_rows, y);
        });
    }

    template <class Type>
    void store_vectors(const float* sums, int32_t row, int32_t n_rows, void* y) const {
        auto* to = elements<Type>(y) + output(row);
        for (int32_t r = 0; r < n_rows; r++, to += g.out_volume())
            for (int v = 0; v < n_vectors; v++, sums += LANES)
                if (places.n_lanes[v] == LANES) Type::store(to + places.at[v], load<Floats>(sums));
                else Type::store_first(to + places.at[v], load<Floats>(sums), places.n_lanes[v]);
    }

    // Where vectors go to several samples.
    template <class Type>
    void store_segments(const float* sums, int32_t row, int32_t n_rows, void* y) const {
        const int64_t volume = g.out_volume();
        const int64_t s = first.sample * volume + g.position(first.d, first.h, first.w);
        const int64_t n = smaller(n_vectors * LANES, n_samples * volume - s);
        for (int64_t i = 0, n_here; i < n; i += n_here) {
            const int64_t sample = (s + i) / volume, at = (s + i) % volume;
            n_here = smaller(n - i, volume - at);
            auto* to = elements<Type>(y) + (sample * g.out_channels + row) * volume + at;
            for (int32_t r = 0; r < n_rows; r++)
                copy_from_floats<Type>(sums + r * n_vectors * LANES + i, n_here, to + r * volume);
        }
    }
};
