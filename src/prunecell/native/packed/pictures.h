// Convolutions and pooling one after the other, and linear layers behind them, as one call.
//
// A few samples at a time go through all convolutions, so that what passes from one to the next stays in the second-level
// cache. Their results are the rows of features that the linear layers take.
#pragma once

#include "chain.h"

static int32_t pool_shared(const Link& link, const float* x, int64_t n_samples, float* y, const Team* team) {
    const auto& p = *static_cast<const Pooling*>(link.picture);
    return share(team, n_samples * p.g.in_channels, [&](auto take) {
        int32_t outcome = DONE;
        take([&](int64_t p0, int64_t p1) {
            if (outcome == DONE)
                outcome = pool(p, x + p0 * p.g.in_volume(), p1 - p0, y + p0 * p.g.out_volume());
        });
        return outcome;
    });
}

// Rounds n results to a type, and computes the activation behind them.
static void finish_shared(const Link& link, int32_t type, float* at, int64_t n, const Team* team) {
    constexpr int64_t AT_ONCE = 1 << 10;
    share(team, (n + AT_ONCE - 1) / AT_ONCE, [&](auto take) {
        take([&](int64_t begin, int64_t end) {
            const int64_t n_here = smaller(n, end * AT_ONCE) - begin * AT_ONCE;
            round_floats(type, at + begin * AT_ONCE, n_here);
            link.finish(type, at + begin * AT_ONCE, 1, n_here, n_here);
        });
        return DONE;
    });
}

// Where the pictures lie that pass from one link to the next: in two buffers in turn, with room around each for what a
// pooling reads there.
struct Between {
    int64_t size = 0, room = 0;

    Between(const Chain& chain, int64_t n_samples) {
        for (int64_t i = 0; i + 1 < chain.n_pictures; i++) {
            size = larger(size, round_up(chain.links[i].n_outputs() * n_samples, LANES));
            const Link& next = chain.links[i + 1];
            if (next.kind == POOLING) room = larger(room, round_up(static_cast<const Pooling*>(next.picture)->room(), LANES));
        }
    }

    int64_t n_floats() const { return 2 * size + 3 * room; }
    float* buffer(float* memory, int64_t link) const { return memory + room + link % 2 * (size + room); }
};

// y [sample][channel][position] of some samples of x, which the threads pass through each link together. All are floats.
static int32_t pass_pictures(const Chain& chain, const float* x, int64_t n_samples, const Between& between, float* memory,
                             float* y, const Team* team) {
    int32_t outcome = DONE;
    for (int64_t i = 0; i < chain.n_pictures && outcome == DONE; i++) {
        const Link& link = chain.links[i];
        float* to = i + 1 == chain.n_pictures ? y : between.buffer(memory, i);
        outcome = link.kind == POOLING
                      ? pool_shared(link, x, n_samples, to, team)
                      : pc_blocked_convolution(static_cast<const Blocked*>(link.form), &link.geometry(), link.scales,
                                               link.bias, link.bias_type, link.activation == RELU, FLOAT32, x, to,
                                               n_samples, team);
        finish_shared(link, chain.type, to, n_samples * link.n_outputs(), team);
        x = to;
    }
    return outcome;
}

// The same for all samples, of two types. Threads share the samples; where there are fewer, they work together on each
// link.
template <class From, class To>
static int32_t all_pictures(const Chain& chain, const void* x, int64_t n_samples, void* y, const Team* team) {
    const int64_t n_inputs = chain.links[0].n_inputs(), n_outputs = chain.links[chain.n_pictures - 1].n_outputs();
    const bool is_apart = team && n_samples >= team->n_threads;
    const int64_t n_at_once = smaller(n_samples, chain.n_at_once);
    const Between between(chain, n_at_once);
    return share(is_apart ? team : nullptr, n_samples, [&](auto take) {
        const Scratch<float> memory(between.n_floats());
        const Scratch<float> inputs(From::IS_FLOAT ? 0 : n_at_once * n_inputs), outputs(To::IS_FLOAT ? 0 : n_at_once * n_outputs);
        int32_t outcome = memory.at && inputs.at && outputs.at ? DONE : NO_MEMORY;
        take([&](int64_t s0, int64_t s1) {
            for (int64_t s = s0; s < s1 && outcome == DONE; s += n_at_once) {
                const int64_t n = smaller(n_at_once, s1 - s);
                const auto* source = elements<From>(x) + s * n_inputs;
                auto* target = elements<To>(y) + s * n_outputs;
                const float* from = inputs.at;
                float* to = outputs.at;
                if constexpr (From::IS_FLOAT) from = source;
                else copy_as_floats<From>(source, n * n_inputs, inputs.at);
                if constexpr (To::IS_FLOAT) to = target;
                outcome = pass_pictures(chain, from, n, between, memory.at, to, is_apart ? nullptr : team);
                if constexpr (!To::IS_FLOAT) copy_from_floats<To>(to, n * n_outputs, target);
            }
        });
        return outcome;
    });
}

template <class Type>
static int32_t chain_of_pictures(const Chain& chain, bool few, const void* x, int64_t n_samples, void* y, const Team* team) {
    const int64_t n_pictures = chain.n_pictures, n_linear = chain.n_links - n_pictures;
    if (n_linear == 0) return all_pictures<Type, Type>(chain, x, n_samples, y, team);
    const Chain linear{chain.links + n_pictures, n_linear, 0, 0, chain.type};
    const int64_t n_inputs = chain.links[0].n_inputs(), n_features = chain.links[n_pictures - 1].n_outputs();
    const int64_t n_results = chain.links[chain.n_links - 1].n_rows;
    const int64_t n_together = few ? n_samples : smaller(n_samples, TILE * (team ? team->n_threads : 1));
    const Scratch<float> rows(n_together * n_features);
    if (!rows.at) return NO_MEMORY;
    int32_t outcome = DONE;
    for (int64_t s = 0; s < n_samples && outcome == DONE; s += n_together) {
        const int64_t n = smaller(n_together, n_samples - s);
        outcome = all_pictures<Type, Float32>(chain, elements<Type>(x) + s * n_inputs, n, rows.at, team);
        if (outcome != DONE) return outcome;
        const auto kernel = few ? chain_of_few : chain_of_many;
        const Operand of_linear{rows.at, 1, n_features, FLOAT32};
        outcome = kernel(linear, of_linear, n, elements<Type>(y) + s * n_results, team);
    }
    return outcome;
}

// y for samples x (channels, positions; contiguous). The linear layers of the chain, if there are any, are sliced for a
// `few` samples, else blocked. Returns an Outcome.
EXPORT int32_t pc_chain_of_pictures(const Chain* chain, int32_t few, const void* x, int64_t n_samples, void* y,
                                    const Team* team) {
    return with_operand_type(chain->type, [&](auto type) {
        return chain_of_pictures<decltype(type)>(*chain, few != 0, x, n_samples, y, team);
    });
}
