// bitmask: ceil(n_columns / 8) bytes a row, bit c % 8 of byte c / 8 set where column c is kept.
#pragma once

#include "dot.h"

struct Bitmask {
    static constexpr int32_t WRONG = 4;
    static constexpr int64_t ANY_COLUMN = 0, READABLE = 0;
    typedef int32_t Column;

    static INLINED int64_t row_bytes(const Matrix& m) { return (int64_t{m.n_columns} + 7) / 8; }

    static INLINED const uint8_t* row_at(const Matrix& m, int32_t r) {
        return static_cast<const uint8_t*>(m.indices) + r * row_bytes(m);
    }

    // Whether a row has bits beyond n_columns.
    static INLINED bool has_strays(const Matrix& m, const uint8_t* row) {
        return m.n_columns % 8 && row[row_bytes(m) - 1] >> m.n_columns % 8;
    }

    // A row has as many bits as entries, and no bit beyond n_columns.
    static bool row_is_sound(const Matrix& m, int32_t r, int64_t begin, int64_t end) {
        const uint8_t* row = row_at(m, r);
        int64_t n = 0;
        for (int64_t i = 0; i < row_bytes(m); i++) n += __builtin_popcount(row[i]);
        return n == end - begin && !has_strays(m, row);
    }

    // The bits of up to 64 columns from c on; those beyond n_columns are left out.
    static INLINED uint64_t word_at(const Matrix& m, const uint8_t* row, int64_t c) {
        uint64_t word = 0;
        if (m.n_columns - c >= 64) {
            memcpy(&word, row + c / 8, sizeof(word));
            return word;
        }
        memcpy(&word, row + c / 8, row_bytes(m) - c / 8);
        return word & ~(~uint64_t{0} << (m.n_columns - c));
    }

    // A row with too many bits writes up to 64 columns too many; one with too few is filled up with column 0.
    template <class Rows>
    static bool decode(const Matrix& m, const Rows& rows, int32_t r0, int32_t r1, Column* to) {
        bool sound = true;
        for (int32_t r = r0; r < r1; r++) {
            const uint8_t* row = row_at(m, r);
            Column* const end = to + (rows.begin(r + 1) - rows.begin(r));
            for (int64_t c = 0; c < m.n_columns && to <= end; c += 64)
                for (uint64_t word = settled(word_at(m, row, c)); word; word &= word - 1)
                    *to++ = static_cast<Column>(c + __builtin_ctzll(word));
            sound &= to == end && !has_strays(m, row);
            while (to < end) *to++ = 0;
            to = end;
        }
        return sound;
    }

    // Rows times one dense vector.
    struct Dot {
        const Matrix& m;
        const DenseVector& x;
        bool sound = true;
        Dot(const Matrix& matrix, const DenseVector& vector) : m(matrix), x(vector) {}
        bool is_sound() const { return sound; }

        // The bits of a row's columns [c, c + LANES), which are there, or of those up to n_columns.
        static INLINED uint32_t bits_at(const uint8_t* row, int64_t c) {
            if (LANES <= 8) return row[c / 8] >> c % 8 & ((1 << LANES) - 1);
            uint16_t bits;
            memcpy(&bits, row + c / 8, sizeof(bits));
            return bits;
        }

        static INLINED uint32_t last_bits_at(const uint8_t* row, int64_t c, int64_t n_columns) {
            return LANES <= 8 || c + 8 < n_columns ? bits_at(row, c) : row[c / 8];
        }

        // Expands the values of LANES columns at a time, while whole vectors of values and of x can be read. Of x only
        // the columns of entries count, because infinity times the 0 of another one is NaN.
        template <class Value>
        INLINED float row(int32_t r, int64_t begin, int64_t row_end) {
            using Stored = typename Value::Stored;
            const uint8_t* row = row_at(m, r);
            const float* const dense = x.at;
            const Stored *values = static_cast<const Stored*>(m.values), *value = values + begin,
                         *end = values + m.n_entries;
            Floats total{}, odd{};
            int64_t c = 0, n_columns = m.n_columns;
            for (; c + LANES <= n_columns && end - value >= LANES; c += LANES) {
                uint32_t bits = bits_at(row, c);
                Floats sums = total + expand(bits, Value::load(value)) * chosen(bits, load<Floats>(dense + c));
                total = odd, odd = sums;
                value += __builtin_popcount(bits);
            }
            total += odd;
            for (; c < n_columns; c += LANES) {
                uint32_t bits = settled(last_bits_at(row, c, n_columns));
                int64_t n_bits = __builtin_popcount(bits), n = smaller(n_bits, end - value);
                Floats expanded = expand(bits, Value::load(Padded<Stored>(value, n).at));
                total += expanded * chosen(bits, load<Floats>(c + LANES <= n_columns ? dense + c : x.tail.at));
                value += n;
                sound &= n == n_bits;
            }
            sound &= value == values + row_end && !has_strays(m, row);
            return sum(total);
        }
    };
};
