// bitmask: ceil(n_columns / 8) bytes a row, bit c % 8 of byte c / 8 set where column c is kept.
#pragma once

#include "dot.h"

struct Bitmask {
    static constexpr int32_t WRONG = 4;
    static constexpr bool IS_PLAIN = false;

    static INLINED int64_t row_bytes(const Matrix& m) { return (m.n_columns + 7) / 8; }

    // A row has as many bits as entries, and no bit beyond n_columns.
    static bool is_sound(const Matrix& m) {
        const auto* byte = static_cast<const uint8_t*>(m.indices);
        int past_the_end = m.n_columns % 8 ? 0xff << m.n_columns % 8 & 0xff : 0;
        bool sound = true;
        for (int32_t r = 0; r < m.n_rows; r++) {
            int64_t n = 0;
            for (int64_t i = 0; i < row_bytes(m); i++) n += __builtin_popcount(*byte++);
            sound &= n == m.starts[r + 1] - m.starts[r] && (m.n_columns == 0 || !(byte[-1] & past_the_end));
        }
        return sound;
    }

    template <class Map>
    static INLINED void decode(const Matrix& m, int32_t r0, int32_t r1, Map map, int32_t* to) {
        const uint8_t* row = static_cast<const uint8_t*>(m.indices) + r0 * row_bytes(m);
        for (int32_t r = r0; r < r1; r++, row += row_bytes(m)) {
            for (int64_t i = 0; i < row_bytes(m); i += 8) {
                uint64_t word = 0;
                memcpy(&word, row + i, smaller(8, row_bytes(m) - i));
                for (; word; word &= word - 1) *to++ = map(8 * i + __builtin_ctzll(word));
            }
        }
    }

    // The bits of a row's columns [c, c + LANES).
    static INLINED uint32_t bits_at(const uint8_t* row, int64_t c, int64_t n_columns) {
        if (LANES <= 8) return row[c / 8] >> c % 8 & ((1 << LANES) - 1);
        return row[c / 8] | (c + 8 < n_columns ? row[c / 8 + 1] << 8 : 0);
    }

    // Expands the values of LANES columns at a time, while whole vectors of values and of x can be read.
    template <class Value>
    static INLINED float dot(const Matrix& m, int32_t r, const DenseVector& x) {
        using Stored = typename Value::Stored;
        const uint8_t* row = static_cast<const uint8_t*>(m.indices) + r * row_bytes(m);
        const Stored *value = static_cast<const Stored*>(m.values) + m.starts[r],
                     *end = static_cast<const Stored*>(m.values) + m.n_entries;
        Floats total{}, odd{};
        int64_t c = 0, n_columns = m.n_columns;
        for (; c + LANES <= n_columns && end - value >= LANES; c += LANES) {
            uint32_t bits = bits_at(row, c, n_columns);
            Floats sums = total + expand(bits, Value::load(value)) * load<Floats>(x.at + c);
            total = odd, odd = sums;
            value += __builtin_popcount(bits);
        }
        total += odd;
        for (; c < n_columns; c += LANES) {
            uint32_t bits = bits_at(row, c, n_columns);
            int n = __builtin_popcount(bits);
            Floats values = Value::load(Padded<Stored>(value, n).at);
            total += expand(bits, values) * load<Floats>(c + LANES <= n_columns ? x.at + c : x.tail.at);
            value += n;
        }
        return sum(total);
    }
};
