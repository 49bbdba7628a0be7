"""Value modes: what every entry of the table keeps, what each one promises, and the recipe to add one."""

import math
import pickle
import re
from dataclasses import is_dataclass, replace
from pathlib import Path

import pytest
import torch

from prunecell import codecs
from prunecell.archive import load, save
from prunecell.codecs.decode import decode
from prunecell.codecs.encode import Scaled, encode
from prunecell.codecs.modes import VALUE_MODES, Rounded, SharedValues, value_mode
from prunecell.codecs.streams import InMemory
from prunecell.errors import OptionError, OptionTypeError, UnknownNameError

GUIDE = Path(__file__).parents[3] / "docs" / "archive.md"
RECIPE = next(b for b in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL) if "class Signs" in b)


def recipe():
    """The value mode of the guide."""
    names = {}
    exec(RECIPE[: RECIPE.index("save(")], names)  # noqa: S102 - our own page
    return names["Signs"]()


MODES = {**VALUE_MODES, "signs": recipe()}
LOSSY = [name for name in MODES if name != "exact"]


def bits(tensor):
    return tensor.reshape(-1).clone(memory_format=torch.contiguous_format).view(torch.uint8).tolist()


def same_bits(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and bits(one) == bits(other)


def there_and_back(chosen):
    encoded = encode(chosen)
    return decode(encoded.record, InMemory(memoryview(b"".join(encoded.blob))))


def sparse(dtype=torch.float32):
    torch.manual_seed(0)
    weight = torch.randn(20, 30) * (torch.rand(20, 30) < 0.3)
    weight[0, 0], weight[1] = -0.0, 0.0
    return weight.to(dtype)


TENSORS = {
    "float64": sparse(torch.float64),
    "float32": sparse(),
    "float16": sparse(torch.float16),
    "bfloat16": sparse(torch.bfloat16),
    "transposed": sparse().T,
    "strided": sparse()[::2, 1::3],
    "expanded": sparse()[:, :1].expand(20, 7),
    "kernel": torch.randn(6, 5, 3, 3),
    "zeros": torch.zeros(9, 8),
    "minus zeros": -torch.zeros(9, 8),
    "one": torch.full((1, 1), 3.0),
    "one of two": torch.full((2,), 0.5)[::2],
    "one of many": torch.ones(4, 8).as_strided((1, 1), (7, 3)),
    "one long of two": torch.ones(2, dtype=torch.int64)[::2],
    "one complex of two": torch.ones(2, dtype=torch.complex64)[::2],
    "one flag of two": torch.tensor([True, False])[::2],
    "0-d": torch.tensor(1.5),
    "vector": torch.randn(9),
    "empty": torch.empty(0, 3),
    "integers": torch.arange(12).reshape(3, 4),
    "flags": torch.eye(3).bool(),
    "float8": sparse().to(torch.float8_e5m2),
    "complex": torch.randn(3, 4, dtype=torch.complex64),
    "NaN and infinities": torch.tensor([math.nan, math.inf, -math.inf, -0.0]),
}
WEIGHTS = [name for name, tensor in TENSORS.items() if codecs.modes.is_weight(tensor)]


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("mode", MODES)
def test_what_a_mode_makes_comes_back_bit_for_bit(mode, tensor):
    chosen = MODES[mode](tensor, TENSORS[tensor])
    back = there_and_back(chosen)
    if isinstance(chosen, Scaled):
        rows = chosen.scales.reshape(-1, *[1] * (chosen.integers.dim() - 1))
        chosen = (chosen.integers * rows).to(chosen.dtype)
    assert same_bits(back, chosen)
    assert (back.dtype, back.shape) == (TENSORS[tensor].dtype, TENSORS[tensor].shape)


@pytest.mark.parametrize("tensor", TENSORS)
def test_exact_loses_nothing(tensor):
    assert VALUE_MODES["exact"]("t", TENSORS[tensor]) is TENSORS[tensor]


@pytest.mark.parametrize("tensor", [name for name in TENSORS if name not in WEIGHTS])
@pytest.mark.parametrize("mode", LOSSY)
def test_only_weights_of_two_dimensions_are_changed(mode, tensor):
    assert MODES[mode]("t", TENSORS[tensor]) is TENSORS[tensor]


@pytest.mark.parametrize("tensor", WEIGHTS)
@pytest.mark.parametrize("mode", LOSSY)
def test_zeros_stay_zeros_and_minus_zero_becomes_one(mode, tensor):
    weight = TENSORS[tensor]
    chosen = MODES[mode]("w", weight)
    back = there_and_back(chosen)
    assert not back[weight == 0].any()
    if chosen is not weight:
        assert not back[weight == 0].signbit().any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", LOSSY)
def test_what_is_not_finite_is_kept_or_refused_by_name(mode, bad):
    weight = sparse()
    weight[3, 4] = bad
    try:
        back = there_and_back(MODES[mode]("layer", weight))
    except OptionError as error:
        assert str(error) == f"values='{mode}' needs finite weights, and 'layer' holds inf or NaN"  # noqa: PT017
    else:
        assert torch.allclose(back[3, 4], weight[3, 4], equal_nan=True)


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_is_a_value(mode):
    assert is_dataclass(MODES[mode])
    assert replace(MODES[mode]) == MODES[mode]
    assert hash(replace(MODES[mode])) == hash(MODES[mode])
    if mode in VALUE_MODES:
        assert pickle.loads(pickle.dumps(MODES[mode])) == MODES[mode]  # noqa: S301 - our own


def test_the_recipe_of_the_guide_is_as_short_as_it_says(tmp_path, monkeypatch):
    lines = [line for line in RECIPE[: RECIPE.index("save(")].splitlines() if line and "import" not in line]
    assert "Seven lines are enough" in GUIDE.read_text()
    assert len(lines) == 7
    monkeypatch.setitem(VALUE_MODES, "signs", MODES["signs"])
    save({"w": sparse()}, tmp_path / "signs.pcell", values="signs")
    assert len(load(tmp_path / "signs.pcell")["w"].unique()) == 3
    with pytest.raises(UnknownNameError, match="did you mean 'signs'"):
        value_mode("sings")


# --- what each of them promises


@pytest.mark.parametrize(("mode", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_rounding_is_torchs(mode, dtype):
    weight = torch.randn(50, 40)
    assert torch.equal(there_and_back(VALUE_MODES[mode]("w", weight)), weight.to(dtype).float())


def test_a_number_too_large_for_fp16_is_refused_by_name():
    with pytest.raises(OptionError, match=r"'big' holds a number too large for float16"):
        VALUE_MODES["fp16"]("big", torch.full((2, 2), 1e5))
    infinite = torch.tensor([[math.inf, 1.0]])
    assert torch.equal(VALUE_MODES["fp16"]("w", infinite), infinite)


def test_int8_is_within_half_a_step_of_its_channel():
    weight = torch.randn(30, 4, 5) * torch.logspace(-3, 3, 30)[:, None, None]
    scaled = VALUE_MODES["int8"]("w", weight)
    assert isinstance(scaled, Scaled)
    back = there_and_back(scaled)
    assert torch.equal(back, scaled.integers * scaled.scales[:, None, None])
    assert bool(((back - weight).abs() <= scaled.scales[:, None, None] * 0.5001).all())
    assert bool((scaled.integers.abs().amax((1, 2)) == 127).all())


def test_int8_of_tiny_and_of_zero_channels():
    weight = torch.tensor([[1e-45, 0.0], [0.0, 0.0], [1e-38, -1e-38]])
    back = there_and_back(VALUE_MODES["int8"]("w", weight))
    assert bool(back.isfinite().all())
    assert there_and_back(VALUE_MODES["int8"]("w", torch.zeros(3, 4))).tolist() == torch.zeros(3, 4).tolist()


@pytest.mark.parametrize("mode", ["int8", "codebook3"])
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_modes_that_need_finite_weights_say_so(mode, bad):
    with pytest.raises(OptionError, match=f"values='{mode}' needs finite weights, and 'layer' holds inf or NaN"):
        VALUE_MODES[mode]("layer", torch.tensor([[1.0, bad]]))


@pytest.mark.parametrize("bits_", range(1, 9))
def test_shared_values_are_few_and_stay_as_they_are(bits_):
    weight = torch.randn(60, 50) * (torch.rand(60, 50) < 0.5)
    mode = SharedValues(bits=bits_)
    shared = mode("w", weight)
    assert len(shared[shared != 0].unique()) <= 2**bits_
    assert torch.equal(mode("w", shared), shared)
    assert torch.equal(shared.bfloat16().float(), shared)


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e200])
def test_values_of_any_size_are_shared(scale):
    weight = torch.randn(40, 40, dtype=torch.float64) * scale
    shared = SharedValues(bits=6)("w", weight)
    assert bool(((shared - weight).abs() < 0.3 * scale).all())
    assert same_bits(there_and_back(shared), shared)


def test_more_bits_share_with_less_error():
    weight = torch.randn(100, 100)
    errors = [float((SharedValues(bits=b)("w", weight) - weight).square().mean()) for b in range(1, 9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[4] < 0.01 * float(weight.var())


def test_a_mode_by_name_or_by_value():
    assert value_mode("fp16") == Rounded(dtype="float16")
    assert value_mode(SharedValues(bits=3)) == VALUE_MODES["codebook3"]
    with pytest.raises(UnknownNameError, match="did you mean 'codebook5'"):
        value_mode("codebok5")
    with pytest.raises(OptionTypeError, match="values=3 is illegal"):
        value_mode(3)
    with pytest.raises(OptionError, match=r"bits=9 is illegal: it must be a whole number in \[1, 8\]"):
        SharedValues(bits=9)
    with pytest.raises(OptionError, match="'float8' is illegal"):
        Rounded(dtype="float8")
