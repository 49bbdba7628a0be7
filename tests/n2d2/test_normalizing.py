"""Normalize and LRN: the formulas, value by value; and as sections."""

import pytest
import torch

from n2d2 import ini
from n2d2.cells.normalizing import LRN, Normalize
from n2d2.error_handler import WrongValue
from n2d2.network.network import read_network
from prunecell.errors import OptionError

SHAPES = [(3, 7), (2, 5, 4), (2, 6, 3, 4), (1, 1, 2, 2)]


def lrn_reference(x, *, n, alpha, beta, k):
    made = torch.empty_like(x)
    for i in range(x.shape[1]):
        near = x[:, max(0, i - n // 2) : i + n // 2 + 1]
        made[:, i] = x[:, i] / (k + alpha * (near**2).sum(1)) ** beta
    return made


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "options", [{}, {"n": 1}, {"n": 2, "alpha": 0.3}, {"n": 3, "alpha": 2.0, "beta": 1.5, "k": 0.5}]
)
def test_lrn_is_its_formula(shape, options):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    wanted = lrn_reference(x, **{"n": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0, **options})
    torch.testing.assert_close(LRN(**options)(x), wanted)
    assert torch.autograd.gradcheck(LRN(**options), (x,))


@pytest.mark.parametrize("shape", SHAPES)
def test_normalize_makes_each_place_of_norm_1(shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(Normalize()(x), x / (x.pow(2).sum(1, keepdim=True) + 1e-6).sqrt())
    assert torch.autograd.gradcheck(Normalize(), (x,))
    assert not Normalize()(torch.zeros(shape)).any()


@pytest.mark.parametrize(
    ("make", "options"), [(LRN, {"n": 0}), (LRN, {"beta": -1}), (LRN, {"k": float("nan")}), (Normalize, {"norm": "L1"})]
)
def test_illegal_options(make, options):
    with pytest.raises((OptionError, WrongValue), match="is illegal"):
        make(**options)


INI = """
[sp]
SizeX=4
SizeY=4
NbChannels=6
[cell]
Input=sp
{}
[fc]
Input=cell
Type=Fc
NbOutputs=2
[fc.Target]
"""


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ("Type=LRN\nNbOutputs=6", {"n": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0}),
        ("Type=LRN\nN=3\nAlpha=0.5\nBeta=1\nK=0", {"n": 3, "alpha": 0.5, "beta": 1, "k": 0}),
        ("Type=Normalize\nNbOutputs=6\nNorm=L2", {"norm": "L2"}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*there are no stimuli")
def test_as_sections(lines, wanted):
    cell = read_network(ini.parse(INI.format(lines))).graph.cells["cell"]
    assert {name: cell.options[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("Type=Normalize", r"\[cell\] Norm is missing"),
        ("Type=Normalize\nNorm=L1", r":9: \[cell\] Norm=L1 is refused: .* use L2"),
        ("Type=LRN\nN=0", r":9: \[cell\] N='0' is illegal: it must be a whole number >= 1"),
        ("Type=LRN\nBeta=-1", r":9: \[cell\] Beta='-1' is illegal: it must be a finite number >= 0"),
        ("Type=LRN\nNbOutputs=3", r":9: \[cell\] NbOutputs='3' is illegal: this cell has 6 outputs"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*there are no stimuli")
def test_what_is_wrong_with_a_section(lines, message):
    with pytest.raises(ini.IniError, match=message):
        read_network(ini.parse(INI.format(lines)))
