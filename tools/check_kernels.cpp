// The kernels beside slow loops, without Python: for CPUs that the tests do not run on. See other_cpus.py.
#include "kernels.cpp"

#include <stdio.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

uint64_t state = 1;

// A number in [0, 1).
double uniform() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state >> 33) / (1u << 31);
}

int n_failed = 0;

const Team TEAM{nullptr, nullptr, 0, 3};  // threads of its own

void compare(const char* what, const std::vector<float>& got, const std::vector<double>& expected) {
    double worst = 0;
    for (size_t i = 0; i < expected.size(); i++) worst = std::max(worst, std::fabs(got[i] - expected[i]));
    const bool is_right = got.size() == expected.size() && worst < 1e-3;
    n_failed += !is_right;
    if (!is_right) printf("%s: off by %g\n", what, worst);
}

// A sparse matrix, dense and in columns16.
struct Sparse {
    int32_t n_rows, n_columns;
    std::vector<float> dense, values;
    std::vector<int32_t> starts{0};
    std::vector<uint16_t> columns;

    Sparse(int32_t rows, int32_t of, double density) : n_rows(rows), n_columns(of), dense(size_t(rows) * of) {
        for (int32_t r = 0; r < rows; r++) {
            for (int32_t c = 0; c < of; c++)
                if (uniform() < density) {
                    dense[size_t(r) * of + c] = static_cast<float>(2 * uniform() - 1);
                    values.push_back(dense[size_t(r) * of + c]), columns.push_back(static_cast<uint16_t>(c));
                }
            starts.push_back(static_cast<int32_t>(values.size()));
        }
    }

    Matrix matrix() const {
        return {starts.data(), columns.data(), values.data(), nullptr, (int64_t)values.size(), n_rows, n_columns,
                COLUMNS16,     FLOAT32};
    }
};

// What a kernel makes of numbers of a type: the same as of these floats, rounded once. run(type, x, y) calls it.
template <class Type, class Run>
void check_type(const char* what, int32_t type, const std::vector<float>& x, size_t n_results, Run run) {
    std::vector<typename Type::Stored> narrow(x.size()), y(n_results), rounded(n_results);
    std::vector<float> wide(x.size()), of_wide(n_results);
    copy_from_floats<Type>(x.data(), x.size(), narrow.data());
    copy_as_floats<Type>(narrow.data(), x.size(), wide.data());
    if (run(type, narrow.data(), y.data()) || run(FLOAT32, wide.data(), of_wide.data())) n_failed++;
    copy_from_floats<Type>(of_wide.data(), n_results, rounded.data());
    n_failed += y != rounded;
    if (y != rounded) printf("%s, type %d: not what floats give\n", what, type);
}

template <class Run>
void check_types(const char* what, const std::vector<float>& x, size_t n_results, Run run) {
    check_type<Float16>(what, FLOAT16, x, n_results, run);
    check_type<BFloat16>(what, BFLOAT16, x, n_results, run);
}

std::vector<float> random_floats(size_t n) {
    std::vector<float> v(n);
    for (float& x : v) x = static_cast<float>(2 * uniform() - 1);
    return v;
}

void check_linear(int32_t n_rows, int32_t n_columns, int64_t n_samples, double density) {
    const Sparse w(n_rows, n_columns, density);
    const Matrix m = w.matrix();
    std::vector<float> x = random_floats(n_samples * n_columns), bias = random_floats(n_rows), y(n_samples * n_rows);
    std::vector<double> expected;
    for (int64_t s = 0; s < n_samples; s++)
        for (int32_t r = 0; r < n_rows; r++) {
            double sum = bias[r];
            for (int32_t c = 0; c < n_columns; c++) sum += double(w.dense[size_t(r) * n_columns + c]) * x[s * n_columns + c];
            expected.push_back(std::max(0.0, sum));
        }
    char name[99];
    snprintf(name, sizeof name, "linear %d x %d, %d samples, density %g", n_rows, n_columns, (int)n_samples, density);
    for (const Team* team : {(const Team*)nullptr, &TEAM}) {
        std::fill(y.begin(), y.end(), NAN);
        auto run = [&](int32_t type, const void* from, void* to) {
            return pc_linear(&m, bias.data(), FLOAT32, 1, type, from, 1, n_columns, n_samples, to, team);
        };
        if (run(FLOAT32, x.data(), y.data())) n_failed++;
        compare(name, y, expected);
        check_types(name, x, y.size(), run);
    }
    Packed packed{};
    if (n_samples <= MOST_SAMPLES ? pc_slice(&m, &packed) : pc_block_linear(&m, 40, &packed)) n_failed++;
    const Link link{packed.at, nullptr, bias.data(), FLOAT32, nullptr, LINEAR, n_columns, n_rows, RELU, 0};
    auto* kernel = n_samples <= MOST_SAMPLES ? pc_chain_of_few : pc_chain_of_many;
    for (const Team* team : {(const Team*)nullptr, &TEAM}) {
        std::fill(y.begin(), y.end(), NAN);
        auto run = [&](int32_t type, const void* from, void* to) {
            const Chain chain{&link, 1, 0, 1, type};
            return kernel(&chain, from, 1, n_columns, n_samples, to, team);
        };
        if (run(FLOAT32, x.data(), y.data())) n_failed++;
        compare(name, y, expected);
        check_types(name, x, y.size(), run);
    }
    pc_release(packed.at);
}

// A convolution, pooling of 2 x 2 and an activation, as one chain, from the results of the convolution.
void check_pooled(const char* name, const Geometry& g, const void* form, const std::vector<float>& bias,
                  const std::vector<float>& x, const std::vector<double>& convolved) {
    const int32_t side = g.out[WIDTH], half = side / 2, channels = g.out_channels;
    const int64_t n_samples = int64_t(convolved.size()) / (int64_t{channels} * side * side);
    if (half == 0) return;
    const Geometry of{1, channels, channels, {1, side, side}, {1, half, half}, {1, 2, 2}, {1, 2, 2}, {0, 0, 0}, {1, 1, 1}};
    for (int32_t is_mean : {0, 1}) {
        const Pooling pooling{of, is_mean, 0, 4};
        const Link links[] = {{form, nullptr, bias.data(), FLOAT32, &g, CONVOLUTION, 0, channels, 0, 0},
                              {nullptr, nullptr, nullptr, FLOAT32, &pooling, POOLING, 0, 0, GELU, 0}};
        std::vector<double> expected;
        for (int64_t plane = 0; plane < n_samples * channels; plane++)
            for (int32_t i = 0; i < half * half; i++) {
                const double* at = &convolved[(plane * side + i / half * 2) * side + i % half * 2];
                const double v = is_mean ? (at[0] + at[1] + at[side] + at[side + 1]) / 4
                                         : std::max(std::max(at[0], at[1]), std::max(at[side], at[side + 1]));
                expected.push_back(v * std::erfc(-v / std::sqrt(2.0)) / 2);
            }
        for (const Team* team : {(const Team*)nullptr, &TEAM}) {
            std::vector<float> y(expected.size(), NAN);
            const Chain chain{links, 2, 2, 1, FLOAT32};
            if (pc_chain_of_pictures(&chain, 0, x.data(), n_samples, y.data(), team)) n_failed++;
            compare(name, y, expected);
        }
    }
}

// Inputs are integers of which the largest is 127, so that quantising changes none, and all sums are exact.
void check_quantised(int32_t n_rows, int32_t n_columns, int64_t n_samples, double density, bool vnni) {
    const Sparse w(n_rows, n_columns, density);
    Matrix m = w.matrix();
    std::vector<int8_t> values;
    for (float value : w.values) values.push_back(static_cast<int8_t>(std::lround(value * 127)));
    m.values = values.data(), m.value_type = INT8;
    const std::vector<float> scales(n_rows, 1.0f), bias(n_rows, 3.0f);
    std::vector<float> x(n_samples * n_columns), y(n_samples * n_rows);
    std::vector<double> expected;
    for (int64_t s = 0; s < n_samples; s++) {
        for (int32_t c = 0; c < n_columns; c++)
            x[s * n_columns + c] = c == s % n_columns ? -127.0f : static_cast<float>(std::lround(254 * uniform() - 127));
        for (int32_t r = 0; r < n_rows; r++) {
            double sum = bias[r];
            for (int32_t k = w.starts[r]; k < w.starts[r + 1]; k++) sum += values[k] * x[s * n_columns + w.columns[k]];
            expected.push_back(std::max(0.0, sum));
        }
    }
    const bool few = n_samples <= MOST_QUANTISED;
    Packed packed{};
    if (few ? pc_slice_quads(&m, vnni, &packed) : pc_block_quads(&m, 40, vnni, &packed)) n_failed++;
    char name[99];
    snprintf(name, sizeof name, "int8 %d x %d, %d samples, density %g", n_rows, n_columns, (int)n_samples, density);
    for (const Team* team : {(const Team*)nullptr, &TEAM}) {
        std::fill(y.begin(), y.end(), NAN);
        auto run = [&](auto kernel, auto* form) {
            return kernel(form, scales.data(), bias.data(), FLOAT32, 1, x.data(), n_columns, n_samples, y.data(), team);
        };
        if (few ? run(pc_quantised_few, static_cast<const SlicedQuads*>(packed.at))
                : run(pc_quantised_many, static_cast<const BlockedQuads*>(packed.at)))
            n_failed++;
        compare(name, y, expected);
    }
    pc_release(packed.at);
}

void check_convolution(int32_t channels, int32_t out, int32_t size, int32_t kernel, int32_t stride, int32_t padding,
                       int32_t groups, int64_t n_samples) {
    const int32_t n_out = (size + 2 * padding - kernel) / stride + 1, area = size * size, group = channels / groups;
    const Geometry g{groups, channels, out, {1, size, size}, {1, n_out, n_out}, {1, kernel, kernel},
                     {1, stride, stride}, {0, padding, padding}, {1, 1, 1}};
    const Sparse w(out, group * kernel * kernel, 0.2);
    const Matrix m = w.matrix();
    std::vector<float> x = random_floats(n_samples * channels * area), bias = random_floats(out);
    std::vector<float> y(n_samples * out * n_out * n_out, NAN);
    std::vector<double> expected;
    for (int64_t s = 0; s < n_samples; s++)
        for (int32_t o = 0; o < out; o++)
            for (int32_t i = 0; i < n_out * n_out; i++) {
                double sum = bias[o];
                for (int32_t c = 0; c < group; c++)
                    for (int32_t k = 0; k < kernel * kernel; k++) {
                        const int32_t h = i / n_out * stride + k / kernel - padding, v = i % n_out * stride + k % kernel - padding;
                        if (h < 0 || v < 0 || h >= size || v >= size) continue;
                        const int64_t channel = s * channels + o / (out / groups) * group + c;
                        sum += double(w.dense[(size_t(o) * group + c) * kernel * kernel + k]) * x[channel * area + h * size + v];
                    }
                expected.push_back(sum);
            }
    char name[99];
    snprintf(name, sizeof name, "convolution %d-%d, %d, kernel %d, stride %d, groups %d", channels, out, size, kernel, stride,
             groups);
    for (const Team* team : {(const Team*)nullptr, &TEAM}) {
        std::fill(y.begin(), y.end(), NAN);
        auto run = [&](int32_t type, const void* from, void* to) {
            return pc_convolution(&m, bias.data(), FLOAT32, 0, &g, type, from, to, n_samples, team);
        };
        if (run(FLOAT32, x.data(), y.data())) n_failed++;
        compare(name, y, expected);
        check_types(name, x, y.size(), run);
    }
    const int32_t form = pc_convolution_form(&g, n_samples, m.n_entries);
    Packed packed{};
    if (pc_block_convolution(&m, &g, form, 30, &packed)) n_failed++;
    const auto* blocked = static_cast<const Blocked*>(packed.at);
    check_pooled(name, g, packed.at, bias, x, expected);
    for (const Team* team : {(const Team*)nullptr, &TEAM}) {
        std::fill(y.begin(), y.end(), NAN);
        auto run = [&](int32_t type, const void* from, void* to) {
            return pc_blocked_convolution(blocked, &g, nullptr, bias.data(), FLOAT32, 0, type, from, to, n_samples, team);
        };
        if (run(FLOAT32, x.data(), y.data())) n_failed++;
        compare(name, y, expected);
        check_types(name, x, y.size(), run);
    }
    pc_release(packed.at);
}

}  // namespace

int main() {
    for (int32_t n_rows : {1, 33, 100})
        for (int32_t n_columns : {1, 50, 300})
            for (int64_t n_samples : {1, 3, 4, 17, 70})
                for (double density : {0.0, 0.1, 1.0}) {
                    check_linear(n_rows, n_columns, n_samples, density);
                    check_quantised(n_rows, n_columns, n_samples, density, false);
                    if (pc_has_vnni()) check_quantised(n_rows, n_columns, n_samples, density, true);
                }
    for (int32_t size : {7, 14, 17, 32})
        for (int32_t kernel : {1, 3, 5})
            for (int32_t stride : {1, 2}) {
                check_convolution(8, 12, size, kernel, stride, kernel / 2, 1, 2);
                check_convolution(8, 12, size, kernel, stride, 0, 2, 1);
            }
    printf("%s: %d failed\n", n_failed ? "WRONG" : "right", n_failed);
    return n_failed != 0;
}
