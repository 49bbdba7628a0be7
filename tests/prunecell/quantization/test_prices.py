"""The prices of bits beside the formulas of the recipe, weight by weight."""

import math

import pytest
import torch
from torch import nn

from prunecell.quantization.images import images_of
from prunecell.quantization.prices import Prices, vector_slope
from prunecell.quantization.sizes import n_bytes_of

CASES = {
    "a matrix": ((9, 14), None),
    "an image": ((9, 2 * 5 * 4), (2, 5, 4)),
    "a convolution of one dimension": ((4, 3, 5), None),
    "of two": ((6, 3, 3, 2), None),
    "of three": ((4, 2, 2, 3, 2), None),
    "pointwise": ((5, 8, 1, 1), None),
    "one weight": ((1, 1), None),
}


def integers(shape, density):
    torch.manual_seed(0)
    return (torch.randn(shape) * 2).round() * (torch.rand(shape) < density)


def neighbours(counts, image, column):
    """The mean of a column and of the pixels around it."""
    if image is None:
        return counts[column]
    _, height, width = image
    plane, y, x = column // (height * width), column // width % height, column % width
    near = [
        counts[plane * height * width + v * width + u]
        for v in range(max(y - 1, 0), min(y + 2, height))
        for u in range(max(x - 1, 0), min(x + 2, width))
    ]
    return sum(near) / len(near)


def slow_prices(q, image):
    """Bits of a first step in each place, and of each further one."""
    n_rows, n_inputs, n = q.shape[0], q.shape[1], math.prod(q.shape[2:])
    n_lives, total, size = int((q != 0).sum()), int(q.abs().sum()), q.numel()
    q = q.reshape(n_rows, n_inputs, n).tolist()
    lives = [[[int(v != 0) for v in kernel] for kernel in row] for row in q]
    d = (n_lives + 1) / (size + 10)
    rho = (total - n_lives + 1) / (total + 2)
    counts = [sum(lives[o][c // n][c % n] for o in range(n_rows)) for c in range(n_inputs * n)]
    made = torch.zeros(n_rows, n_inputs, n)
    for o in range(n_rows):
        row = (sum(map(sum, lives[o])) + 4 * d) / (size / n_rows + 4)
        for i in range(n_inputs):
            kernel = (sum(lives[o][i]) + 2 * d) / (n + 2)
            for k in range(n):
                column = (neighbours(counts, image, i * n + k) + 4 * d) / (n_rows + 4)
                logit = math.log(d / (1 - d)) + 0.7 * (math.log(row / d) + math.log(column / d))
                logit += 0.35 * math.log(kernel / row) if n > 1 else 0
                p = min(max(1 / (1 + math.exp(-logit)), 1e-4), 0.9)
                made[o, i, k] = max(0.5, math.log2((1 - p) / p) + 1 - math.log2(1 - rho))
    return made, -math.log2(rho)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("case", CASES)
def test_prices_are_those_of_the_formula(case, density):
    shape, image = CASES[case]
    q = integers(shape, density)
    prices = Prices.of(q, image)
    near, growth = slow_prices(q, image)
    latents = torch.linspace(-1.99, 1.99, q.numel()).reshape(shape)
    wanted = torch.where(latents.abs() >= 1, growth, near.reshape(shape)) * latents.sign()
    assert torch.allclose(prices.slope(latents, only_growth=False), wanted, rtol=1e-4)
    wanted = torch.where(latents.abs() >= 1, growth, 0.0) * latents.sign()
    assert torch.allclose(prices.slope(latents, only_growth=True), wanted, rtol=1e-4)


def test_a_zero_has_no_slope():
    zeros = torch.zeros(3, 4)
    assert not Prices.of(zeros, None).slope(zeros, only_growth=False).any()
    assert not vector_slope(zeros, only_growth=False).any()


def test_what_is_rare_in_its_row_and_column_costs_more():
    q = integers((40, 40), 0.1)
    q[7], q[:, 9] = 0, 0
    price = Prices.of(q, None).slope(torch.full_like(q, 0.5), only_growth=False)
    assert price[7, 9] == price.max()
    assert price[7].mean() > price.mean() < price[:, 9].mean()


def test_images_are_guessed_where_columns_are_square():
    layers = [
        ("a", nn.Conv2d(3, 6, 3)),
        ("b", nn.Linear(6 * 25, 100)),  # behind a convolution of 6 channels
        ("c", nn.Linear(100, 49)),  # behind a linear layer: 100 are no pixels
        ("d", nn.Conv1d(2, 5, 3)),
        ("e", nn.Linear(5 * 7, 2)),
    ]
    assert dict(images_of(layers)) == {"b": (6, 5, 5)}
    assert dict(images_of([("a", nn.Linear(3 * 1024, 5))])) == {"a": (3, 32, 32)}
    assert dict(images_of([("a", nn.Linear(785, 5))])) == {}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sizes_are_of_any_integers(dtype):
    for shape in (), (1,), (9,), (5, 7), (4, 3, 3, 3), (2, 16):
        q = integers(shape, 0.5).to(dtype)
        assert 0 <= n_bytes_of(q, (1, 4, 4) if shape == (2, 16) else None) <= 4 * q.numel()
    assert n_bytes_of(torch.full((3, 3), 1e30)) == 36
    assert n_bytes_of(integers((100, 100), 0.01)) < n_bytes_of(integers((100, 100), 0.3)) < 10_000
