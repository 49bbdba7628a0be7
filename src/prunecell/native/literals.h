// Frames of Zstandard (RFC 8878) whose blocks are Huffman codes alone, as archives have them, decoded in about half of
// the time that the library takes: a look-up gives up to six symbols at once. Whatever else a frame may have is left to
// the library, and so is everything that is damaged: it then tells what is wrong.
#pragma once

#include "language.h"

constexpr int64_t MAX_BLOCK = 1 << 17;
constexpr int MAX_CODE_BITS = 11, MAX_WEIGHT_LOG = 6, MOST_AT_ONCE = 6, N_SYMBOLS = 256;

// What the next `bits` bits of a stream mean: the first symbol and its bits, and as many symbols as there are.
struct Codes {
    uint64_t many[1 << MAX_CODE_BITS];  // six symbols, the lowest byte first; then the bits of all; then how many
    uint16_t one[1 << MAX_CODE_BITS];   // the symbol, and its bits times 256
    int32_t bits;                       // 0 before the first table was read
};
constexpr int64_t CODES_BYTES = 1 << 15;
static_assert(sizeof(Codes) <= CODES_BYTES, "callers allocate as much");

INLINE int highest_bit(uint32_t value) { return 31 - __builtin_clz(value); }

// The bits of a stream that is read from its end: the highest set bit of the last byte only marks where they begin.
struct Backwards {
    const uint8_t* from;
    int64_t left = -1;  // bits that are not read yet; -1 if the stream is damaged

    Backwards(const uint8_t* bytes, int64_t n) : from(bytes) {
        if (n > 0 && bytes[n - 1]) left = 8 * (n - 1) + highest_bit(bytes[n - 1]);
    }

    // The next n <= 11 bits, with zeros behind the end of the stream.
    INLINED uint32_t peek(int n) const {
        const int64_t low = left - n;
        const int64_t first = low > 0 ? low : 0, byte = first / 8, end = (left + 7) / 8;
        uint32_t bits = 0;
        for (int64_t i = 0; i < 3 && byte + i < end; i++) bits |= uint32_t{from[byte + i]} << 8 * i;
        bits = bits >> first % 8 & ((1u << (left - first)) - 1);
        return low < 0 ? bits << -low : bits;
    }
};

// Reads how often each weight occurs, and the weights by it (4.1.1 and 4.2.1.2); how many there are, or -1.
inline int read_coded_weights(const uint8_t* from, int64_t n, uint8_t* weights) {
    constexpr int MOST = 16;
    if (n < 2) return -1;
    int64_t at = 4;  // bits
    auto next = [&](int n_bits) {
        uint32_t bits = 0;
        for (int64_t i = 0; i < 4 && at / 8 + i < n; i++) bits |= uint32_t{from[at / 8 + i]} << 8 * i;
        return bits >> at % 8 & ((1u << n_bits) - 1);
    };
    const int log = (from[0] & 15) + 5;
    if (log > MAX_WEIGHT_LOG) return -1;
    const int size = 1 << log;
    int counts[MOST] = {}, n_counts = 0, remaining = size + 1, threshold = size, width = log + 1;
    while (remaining > 1) {
        if (n_counts == MOST) return -1;
        const int most = 2 * threshold - 1 - remaining;
        int count = static_cast<int>(next(width - 1));
        if (count < most) {
            at += width - 1;
        } else {
            count = static_cast<int>(next(width));
            if (count >= threshold) count -= most;
            at += width;
        }
        counts[n_counts++] = --count;
        remaining -= count < 0 ? -count : count;
        if (remaining < 1) return -1;
        while (remaining < threshold) width--, threshold >>= 1;
        for (int more = count == 0 ? 3 : 0; more == 3;) {
            more = static_cast<int>(next(2)), at += 2;
            if (n_counts + more > MOST) return -1;
            n_counts += more;
        }
    }
    if (at > 8 * n) return -1;

    uint8_t symbols[1 << MAX_WEIGHT_LOG], bits[1 << MAX_WEIGHT_LOG], bases[1 << MAX_WEIGHT_LOG];
    int nexts[MOST], high = size;
    for (int s = 0; s < n_counts; s++) {
        nexts[s] = counts[s] < 0 ? 1 : counts[s];
        if (counts[s] < 0) symbols[--high] = static_cast<uint8_t>(s);
    }
    int place = 0;
    for (int s = 0; s < n_counts; s++)
        for (int i = 0; i < counts[s]; i++) {
            symbols[place] = static_cast<uint8_t>(s);
            do place = (place + (size >> 1) + (size >> 3) + 3) & (size - 1);
            while (place >= high);
        }
    if (place) return -1;
    for (int state = 0; state < size; state++) {
        const int following = nexts[symbols[state]]++;
        bits[state] = static_cast<uint8_t>(log - highest_bit(static_cast<uint32_t>(following)));
        bases[state] = static_cast<uint8_t>((following << bits[state]) - size);
    }

    const int64_t begin = (at + 7) / 8;
    Backwards stream(from + begin, n - begin);
    if (stream.left < 2 * log) return -1;
    int states[2];
    for (int& state : states) state = static_cast<int>(stream.peek(log)), stream.left -= log;
    for (int n_weights = 0, turn = 0; n_weights < N_SYMBOLS - 1; turn ^= 1) {
        int& state = states[turn];
        weights[n_weights++] = symbols[state];
        const int n_bits = bits[state];
        if (stream.left < n_bits) {
            if (n_weights == N_SYMBOLS - 1) return -1;
            weights[n_weights++] = symbols[states[turn ^ 1]];
            return n_weights;
        }
        state = bases[state] + static_cast<int>(stream.peek(n_bits));
        stream.left -= n_bits;
    }
    return -1;
}

// Reads a description of codes (4.2.1); the bytes that it takes, or -1.
inline int64_t read_codes(const uint8_t* from, int64_t n, Codes& codes) {
    uint8_t weights[N_SYMBOLS] = {};
    if (n < 1) return -1;
    int64_t taken;
    int n_weights;
    if (from[0] < 128) {
        taken = 1 + from[0];
        if (taken > n) return -1;
        n_weights = read_coded_weights(from + 1, from[0], weights);
        if (n_weights < 0) return -1;
    } else {
        n_weights = from[0] - 127;
        taken = 1 + (n_weights + 1) / 2;
        if (taken > n) return -1;
        for (int i = 0; i < n_weights; i++) weights[i] = i % 2 ? from[1 + i / 2] & 15 : from[1 + i / 2] >> 4;
    }
    uint32_t total = 0;
    for (int i = 0; i < n_weights; i++) {
        if (weights[i] > MAX_CODE_BITS) return -1;
        total += (1u << weights[i]) >> 1;
    }
    if (!total) return -1;
    const int bits = highest_bit(total) + 1;
    const uint32_t rest = (1u << bits) - total;
    if (bits > MAX_CODE_BITS || (rest & (rest - 1))) return -1;
    weights[n_weights++] = static_cast<uint8_t>(highest_bit(rest) + 1);
    if (!memchr(weights, 1, n_weights)) return -1;  // codes that are longer than they need to be

    int place = 0;
    for (int weight = 1; weight <= bits; weight++)
        for (int s = 0; s < n_weights; s++)
            if (weights[s] == weight)
                for (int i = 0; i < 1 << (weight - 1); i++)
                    codes.one[place++] = static_cast<uint16_t>(s | (bits + 1 - weight) << 8);
    codes.bits = bits;
    const int mask = (1 << bits) - 1;
    for (int i = 0; i <= mask; i++) {
        uint64_t symbols = 0;
        int used = 0, count = 0;
        for (; count < MOST_AT_ONCE; count++) {
            const int code = codes.one[i << used & mask];
            if (used + (code >> 8) > bits) break;
            symbols |= uint64_t(code & 0xff) << 8 * count;
            used += code >> 8;
        }
        codes.many[i] = symbols | uint64_t(used) << 48 | uint64_t(count) << 56;
    }
    return taken;
}

// One stream of Huffman codes and the place for its symbols.
struct Coded {
    Backwards stream;
    uint8_t *to, *end;

    // Whether `ROUNDS` look-ups neither read before the stream nor write behind the symbols.
    static constexpr int ROUNDS = 5;
    INLINED bool has_room() const {
        return stream.left >= 64 + 8 && end - to >= ROUNDS * MOST_AT_ONCE + 8;
    }

    INLINED void decode_some(const Codes& codes, int shift) {
        const int64_t low = stream.left - 57;  // 57 bits and up to 7 more are in eight bytes
        uint64_t word;
        memcpy(&word, stream.from + (low >> 3), sizeof(word));
        word <<= 7 - (low & 7);
        int64_t used = 0;
        for (int i = 0; i < ROUNDS; i++) {
            const uint64_t entry = codes.many[word >> shift];
            memcpy(to, &entry, sizeof(entry));
            to += entry >> 56;
            const int n = entry >> 48 & 0xff;
            word <<= n;
            used += n;
        }
        stream.left -= used;
    }

    // The rest, symbol by symbol; whether the stream and the symbols end together.
    bool finish(const Codes& codes, int shift) {
        while (has_room()) decode_some(codes, shift);
        while (to < end) {
            const uint16_t code = codes.one[stream.peek(codes.bits)];
            stream.left -= code >> 8;
            if (stream.left < 0) return false;
            *to++ = static_cast<uint8_t>(code);
        }
        return stream.left == 0;
    }
};

inline bool read_streams(const uint8_t* from, int64_t n, int n_streams, const Codes& codes, uint8_t* to, int64_t size) {
    const int shift = 64 - codes.bits;
    if (n_streams == 1) {
        Coded only{Backwards(from, n), to, to + size};
        return only.stream.left >= 0 && only.finish(codes, shift);
    }
    const int64_t part = (size + 3) / 4;
    if (n < 10 || 3 * part > size) return false;
    int64_t lengths[4], at = 6, others = 0;
    for (int i = 0; i < 3; i++) others += lengths[i] = from[2 * i] | from[2 * i + 1] << 8;
    lengths[3] = n - at - others;
    if (lengths[3] < 1) return false;
    auto opened = [&](int i) {
        Coded coded{Backwards(from + at, lengths[i]), to + i * part, i == 3 ? to + size : to + (i + 1) * part};
        at += lengths[i];
        return coded;
    };
    Coded a = opened(0), b = opened(1), c = opened(2), d = opened(3);
    if (a.stream.left < 0 || b.stream.left < 0 || c.stream.left < 0 || d.stream.left < 0) return false;
    while (a.has_room() && b.has_room() && c.has_room() && d.has_room()) {
        a.decode_some(codes, shift);
        b.decode_some(codes, shift);
        c.decode_some(codes, shift);
        d.decode_some(codes, shift);
    }
    return a.finish(codes, shift) && b.finish(codes, shift) && c.finish(codes, shift) && d.finish(codes, shift);
}

// Decodes a compressed block that has literals and no sequences (3.1.1.3); how many symbols it has, or -1.
inline int64_t read_block(const uint8_t* from, int64_t n, Codes& codes, uint8_t* to, int64_t most) {
    if (n < 2) return -1;
    const int type = from[0] & 3, form = from[0] >> 2 & 3;
    uint64_t header = 0;
    memcpy(&header, from, smaller(n, 5));
    int64_t size, length, taken;
    if (type < 2) {
        taken = form == 3 ? 3 : form == 1 ? 2 : 1;
        size = form == 3 ? header >> 4 & 0xfffff : form == 1 ? header >> 4 & 0xfff : header >> 3 & 0x1f;
        length = type == 0 ? size : 1;
    } else {
        const int width = form == 3 ? 18 : form == 2 ? 14 : 10;
        taken = form == 3 ? 5 : form == 2 ? 4 : 3;
        size = header >> 4 & ((1 << width) - 1);
        length = header >> (4 + width) & ((1 << width) - 1);
    }
    if (size > most || taken + length + 1 != n || from[n - 1]) return -1;  // the last byte: no sequences
    from += taken;
    if (type == 0) {
        memcpy(to, from, size);
    } else if (type == 1) {
        memset(to, from[0], size);
    } else {
        int64_t described = type == 2 ? read_codes(from, length, codes) : 0;
        if (described < 0 || !codes.bits || !size) return -1;
        if (!read_streams(from + described, length - described, form == 0 ? 1 : 4, codes, to, size)) return -1;
    }
    return size;
}

// Where the decoder of a frame is.
struct Frame {
    int64_t consumed;   // bytes of `from` that were read in this call
    int64_t produced;   // bytes that were written in this call
    int64_t max_block;  // bytes of a block at most; 0 before the frame began
    int64_t is_over;
};

// Decodes whole blocks while they are in `from`, and while `room` has place for the largest block. Returns 0, or 1 if
// the rest is left to the library. `memory` has CODES_BYTES, zero at first.
EXPORT int32_t pc_read_literals(Frame* frame, const uint8_t* from, int64_t n, uint8_t* to, int64_t room, void* memory) {
    Codes& codes = *static_cast<Codes*>(memory);
    int64_t at = 0, made = 0;
    int32_t result = 0;
    if (!frame->max_block) {
        static const uint8_t BEGIN[] = {0x28, 0xb5, 0x2f, 0xfd, 0};  // with a window, and nothing else
        if (n < 6 || memcmp(from, BEGIN, sizeof(BEGIN))) return 1;
        const int exponent = from[5] >> 3, mantissa = from[5] & 7;
        if (exponent > 13 || (exponent == 13 && mantissa)) return 1;  // more than 8 MiB
        const int64_t window = (int64_t{8} + mantissa) << (7 + exponent);
        frame->max_block = smaller(window, MAX_BLOCK);
        at = 6;
    }
    while (!frame->is_over && n - at >= 3 && room - made >= frame->max_block) {
        const uint32_t header = from[at] | from[at + 1] << 8 | from[at + 2] << 16;
        const int64_t size = header >> 3, type = header >> 1 & 3, stored = type == 1 ? 1 : size;
        if (type == 3 || size > frame->max_block) {
            result = 1;
            break;
        }
        if (n - at - 3 < stored) break;
        const uint8_t* body = from + at + 3;
        int64_t n_made = size;
        if (type == 0)
            memcpy(to + made, body, size);
        else if (type == 1)
            memset(to + made, body[0], size);
        else
            n_made = read_block(body, size, codes, to + made, frame->max_block);
        if (n_made < 0) {
            result = 1;
            break;
        }
        made += n_made;
        at += 3 + stored;
        frame->is_over = header & 1;
    }
    frame->consumed = at;
    frame->produced = made;
    return result;
}
