// The context coder of archives: a tensor of whole numbers, most of them zero, as bits under contexts that learn.
//
// A tensor is rows of pictures: O x (planes, height, width). First come the flags of the rows that are not zero, then
// those of the columns, then the numbers where both are alive. docs/format.md says it in full, and contexts_twin.py is
// the reference. A reader trusts no byte: it reads zeros after the end of its data, stops after a row once it has read
// more than was there, and an index depends on bits only through numbers that are bounded here.
#pragma once

#include <new>

#include "language.h"

// The shape of a tensor, and how many of its numbers are not zero. At most 2^22 columns and 2^36 numbers.
struct Grid {
    int64_t rows, count;
    int32_t planes, height, width;
};

// How probable a 1 is, of 65536, and how many bits were seen, up to 255.
struct Context {
    uint16_t p = 1 << 15, n = 0;
};

struct Rates {
    uint16_t of[256];
    constexpr Rates() : of() {
        for (int n = 0; n < 256; n++) of[n] = static_cast<uint16_t>(655360 / (10 * n + 16));
    }
};
constexpr Rates RATES;

// A binary range coder without carries. Where it writes, bytes past the end are counted, and not stored.
template <bool WRITES>
struct RangeCoder {
    using Bytes = typename std::conditional<WRITES, uint8_t, const uint8_t>::type;
    Bytes* data;
    int64_t end, at = 0;
    uint32_t low = 0, high = 0xffffffff, code = 0;

    RangeCoder(Bytes* data, int64_t end) : data(data), end(end) {
        if constexpr (!WRITES)
            for (int i = 0; i < 4; i++) code = code << 8 | next();
    }

    INLINED uint32_t next() {
        uint32_t byte = at < end ? data[at] : 0;
        at++;
        return byte;
    }

    void put(uint32_t byte) {
        if constexpr (WRITES)
            if (at < end) data[at] = static_cast<uint8_t>(byte);
        at++;
    }

    // Codes a bit; a reader does not look at the one that is given.
    INLINED bool bit(Context& context, bool given = false) {
        const uint32_t p = context.p, rate = RATES.of[context.n];
        const uint32_t middle = low + static_cast<uint32_t>(uint64_t{high - low} * p >> 16);
        const bool one = WRITES ? given : code <= middle;
        (one ? high : low) = one ? middle : middle + 1;
        const uint32_t learnt = one ? p + ((65536 - p) * rate >> 16) : p - (p * rate >> 16);
        context.p = static_cast<uint16_t>(learnt < 16 ? 16 : learnt > 65520 ? 65520 : learnt);
        context.n = static_cast<uint16_t>(context.n + (context.n < 255));
        while (!((low ^ high) >> 24)) {
            if constexpr (WRITES)
                put(high >> 24);
            else
                code = code << 8 | next();
            low <<= 8, high = high << 8 | 255;
        }
        return one;
    }

    // Whether more was read than a stream of this length can hold.
    bool is_cut() const { return at > end + 4; }

    // Writes as few bytes as tell the last bits.
    void finish() {
        uint64_t last = 0;
        int n = 0;
        for (; n <= 4; n++) {
            const uint64_t step = uint64_t{1} << (32 - 8 * n);
            last = (low + step - 1) / step * step;
            if (last <= high) break;
        }
        for (int i = 0; i < n; i++) put(static_cast<uint32_t>(last >> (24 - 8 * i) & 0xff));
    }
};

constexpr int MOST_BITS = 30;  // of a magnitude, its highest bit not counted
constexpr int AT_ONCE = 16;      // columns whose levels are computed at once

// What a tensor needs beside its contexts, for each of its rows and columns.
struct Arrays {
    uint8_t *rows, *columns;          // which are not zero
    int32_t *live, *counts, *places;  // of the live columns: which they are, their numbers so far, where in `padded`
    int8_t* padded;                   // a row: each number cut to [-2, 2], each picture with zeros above and beside it
    int64_t n_padded;
};

INLINE int32_t columns_of(const Grid& grid) { return grid.planes * grid.height * grid.width; }

// Places the arrays in memory that begins at `start`; where they end.
static uintptr_t lay_out(const Grid& grid, uintptr_t start, Arrays* to) {
    const int64_t n = columns_of(grid);
    uintptr_t at = start;
    auto take = [&at](int64_t n_bytes) {
        const uintptr_t found = at;
        at += static_cast<uintptr_t>(round_up(n_bytes, CACHE_LINE));
        return found;
    };
    to->n_padded = int64_t{grid.planes} * (grid.height + 1) * (grid.width + 2) + 1;
    to->rows = reinterpret_cast<uint8_t*>(take(grid.rows));
    to->columns = reinterpret_cast<uint8_t*>(take(n));
    to->live = reinterpret_cast<int32_t*>(take(4 * n));
    to->counts = reinterpret_cast<int32_t*>(take(4 * n));
    to->places = reinterpret_cast<int32_t*>(take(4 * n));
    to->padded = reinterpret_cast<int8_t*>(take(to->n_padded));
    return at;
}

INLINE int sign_of(int number) { return (number > 0) - (number < 0); }

template <bool WRITES>
struct ContextCoder {
    RangeCoder<WRITES> coder;
    Grid grid;
    Arrays arrays;
    int64_t n_live_rows = 0, row = 0, done = 0, prior = 0, n_coded = 0;
    int32_t n_live = 0;
    Context near[4][9], signs[9], prefix[2][MOST_BITS], suffix[MOST_BITS + 1][16];

    ContextCoder(const Grid& grid, RangeCoder<WRITES> coder) : coder(coder), grid(grid) {
        lay_out(grid, reinterpret_cast<uintptr_t>(this + 1), &arrays);
        for (int t = 0; t < 4; t++)
            for (int level = 0; level < 9; level++) {
                near[t][level].p = static_cast<uint16_t>(smaller((1 + t) * 3 << (7 + level), 39000));
                near[t][level].n = 1;
            }
    }

    // Fills in the flags of the rows and columns of the numbers that are to be written.
    void look_at(const int32_t* numbers) {
        const int64_t n = columns_of(grid);
        memset(arrays.columns, 0, n);
        for (int64_t row = 0; row < grid.rows; row++, numbers += n) {
            uint8_t any = 0;
            for (int64_t k = 0; k < n; k++) {
                const uint8_t set = numbers[k] != 0;
                any |= set;
                arrays.columns[k] |= set;
            }
            arrays.rows[row] = any;
        }
    }

    // Codes which rows are alive, until the stream is cut. One is: where none was before the last, that one.
    void code_rows() {
        Context contexts[2];
        uint8_t last = 1;
        for (int64_t i = 0; i < grid.rows && !coder.is_cut(); i++) {
            last = i == grid.rows - 1 && !n_live_rows ? 1 : coder.bit(contexts[last], arrays.rows[i]);
            arrays.rows[i] = last;
            n_live_rows += last;
        }
    }

    // Codes which columns are alive. `above` tells for each of n_above equal parts of them whether what feeds it is.
    void code_columns(const uint8_t* above, int64_t n_above) {
        Context contexts[2][9];
        const int32_t n = columns_of(grid), part = n_above ? static_cast<int32_t>(n / n_above) : 1;
        uint8_t* flags = arrays.columns;
        int32_t k = 0, place = 1;
        for (int plane = 0; plane < grid.planes; plane++) {
            place += grid.width + 2;
            for (int y = 0; y < grid.height; y++, place += 2)
                for (int x = 0; x < grid.width; x++, k++, place++) {
                    const int left = x ? flags[k - 1] : 2, up = y ? flags[k - grid.width] : 2;
                    Context& context = contexts[n_above && above[k / part]][3 * left + up];
                    flags[k] = k == n - 1 && !n_live ? 1 : coder.bit(context, flags[k]);
                    arrays.live[n_live] = k;
                    arrays.places[n_live] = place;
                    n_live += flags[k];
                }
        }
        memset(arrays.counts, 0, sizeof(int32_t) * n);
        memset(arrays.padded, 0, arrays.n_padded);
        if (n_live_rows) prior = smaller(1 << 17, (grid.count << 17) / (n_live_rows * n_live));
    }

    // The levels of the next columns: how the density of each, times that of the row, compares with powers of two.
    INLINED void find_levels(int64_t unit, int n, const int32_t* counts, uint8_t* levels) const {
        int32_t least[8];  // a count from which on the level is higher
        for (int j = 0; j < 8; j++) {
            const int64_t above = (unit << (j + 1) >> 8) - prior;
            least[j] = static_cast<int32_t>(above <= 0 ? 0 : smaller((above + 65535) >> 16, INT32_MAX));
        }
        for (int i = 0; i < n; i++) {
            int32_t level = 0;
            for (int j = 0; j < 8; j++) level += counts[i] >= least[j];
            levels[i] = static_cast<uint8_t>(level);
        }
    }

    // Codes the next row; where a reader is, `numbers` receives it.
    template <bool IS_PICTURE>
    APART void code_live_row(int32_t* numbers) {
        RangeCoder<WRITES> bits = coder;  // a copy, which stays in registers
        const bool is_last = done == n_live_rows - 1;
        const int64_t stride = grid.width + 2;
        int64_t sum = (done + 2) << 17, n_found = 0;
        for (int32_t start = 0; start < n_live; start += AT_ONCE) {
            const int n = static_cast<int>(smaller(AT_ONCE, n_live - start));
            int32_t* counts = arrays.counts + start;
            uint8_t levels[AT_ONCE];
            find_levels(sum / (n_found + 2), n, counts, levels);
            for (int i = 0; i < n; i++) {
                const int32_t k = arrays.live[start + i];
                int8_t* at = arrays.padded + arrays.places[start + i];
                const int left = at[-1], up = at[-stride];
                int t = 0;
                if (IS_PICTURE) t = (left != 0) + (up != 0) + (at[-stride - 1] != 0) + (at[-stride + 1] != 0);
                sum += (int64_t{counts[i]} << 16) + prior;
                const bool is_sure = (is_last && !counts[i]) || (!n_found && start + i == n_live - 1);
                if (!is_sure && !bits.bit(near[t < 3 ? t : 3][levels[i]], WRITES && numbers[k] != 0)) continue;
                counts[i]++;
                n_found++;
                const bool plus = bits.bit(signs[3 * sign_of(left) + sign_of(up) + 4], WRITES && numbers[k] > 0);
                const int context = left > 1 || left < -1 || up > 1 || up < -1;
                const uint32_t known = WRITES ? static_cast<uint32_t>(numbers[k] < 0 ? -numbers[k] : numbers[k]) : 0;
                const int32_t size = code_magnitude(bits, context, known);
                numbers[k] = plus ? size : -size;
                at[0] = static_cast<int8_t>((size > 1 ? 2 : 1) * (plus ? 1 : -1));
            }
        }
        for (int32_t i = 0; i < n_live; i++) arrays.padded[arrays.places[i]] = 0;
        n_coded += n_found;
        done++;
        coder = bits;
    }

    // Codes a number of 1 or more: how many bits it has, then these bits.
    int32_t code_magnitude(RangeCoder<WRITES>& bits, int context, uint32_t known) {
        const int wanted = WRITES ? 31 - __builtin_clz(known) : 0;
        int size = 0;
        while (size < MOST_BITS && bits.bit(prefix[context][size], size < wanted)) size++;
        uint32_t found = 1;
        for (int i = size - 1; i >= 0; i--) {
            Context even;
            found = 2 * found + bits.bit(found < 16 ? suffix[size][found] : even, known >> i & 1);
        }
        return static_cast<int32_t>(found);
    }

    void code_next_row(int32_t* numbers) {
        if (!WRITES) memset(numbers, 0, sizeof(int32_t) * columns_of(grid));
        if (!arrays.rows[row++]) return;
        grid.height > 1 ? code_live_row<true>(numbers) : code_live_row<false>(numbers);
    }
};

using Writer = ContextCoder<true>;
using Reader = ContextCoder<false>;
static_assert(sizeof(Writer) == sizeof(Reader), "they take the same memory");

// *n_bytes = the memory that reading or writing a tensor takes.
EXPORT void pc_context_memory(const Grid* grid, int64_t* n_bytes) {
    Arrays arrays;
    *n_bytes = static_cast<int64_t>(sizeof(Reader) + lay_out(*grid, 0, &arrays));
}

// Writes a tensor that is not all zero. *n_bytes = what it takes; no more than `room` of it are written. The numbers
// stay as they are.
EXPORT void pc_write_contexts(const Grid* grid, int32_t* numbers, const uint8_t* above, int64_t n_above, void* memory,
                              uint8_t* data, int64_t room, int64_t* n_bytes) {
    Writer& writer = *new (memory) Writer(*grid, RangeCoder<true>(data, room));
    writer.look_at(numbers);
    writer.code_rows();
    writer.code_columns(above, n_above);
    for (int64_t row = 0; row < grid->rows; row++) writer.code_next_row(numbers + row * columns_of(*grid));
    writer.coder.finish();
    *n_bytes = writer.coder.at;
}

// Begins to read: the flags of the rows, to `rows` if that is given, and then, if it is not, those of the columns.
EXPORT void pc_open_contexts(const Grid* grid, const uint8_t* data, int64_t n_bytes, const uint8_t* above,
                             int64_t n_above, void* memory, uint8_t* rows) {
    Reader& reader = *new (memory) Reader(*grid, RangeCoder<false>(data, n_bytes));
    memset(reader.arrays.rows, 0, grid->rows);
    reader.code_rows();
    if (rows)
        memcpy(rows, reader.arrays.rows, grid->rows);
    else
        reader.code_columns(above, n_above);
}

// Reads the next rows. *left = the bytes that were not looked at: less than -4 if the stream is cut, at which the rest
// of the rows is not written. *n_coded = the numbers that are not zero so far.
EXPORT void pc_read_contexts(void* memory, int64_t n_rows, int32_t* numbers, int64_t* left, int64_t* n_coded) {
    Reader& reader = *static_cast<Reader*>(memory);
    for (int64_t i = 0; i < n_rows && !reader.coder.is_cut(); i++)
        reader.code_next_row(numbers + i * columns_of(reader.grid));
    *left = reader.coder.end - reader.coder.at;
    *n_coded = reader.n_coded;
}
