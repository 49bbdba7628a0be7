"""Objects out of sections."""

import pytest

from n2d2 import ini
from n2d2.activation import ACTIVATIONS, Rectifier
from n2d2.database import DIR
from n2d2.filler import FILLERS
from n2d2.network.keys import ini_keys
from n2d2.network.parameters import GETTERS, chosen, configured, in_keys, refuse, warn_of_idle
from n2d2.quantizer import PruneCell
from n2d2.solver import SGD, Adam
from n2d2.transform import TRANSFORMATIONS, RangeAffine, Rescale
from prunecell.errors import OptionError, OptionTypeError


def section_of(*lines):
    return ini.parse("\n".join(["[x]", *lines]), file="net.ini").section("x")


def test_the_keys_of_prune_cell_are_the_documented_ones():
    documented = {"PruningMode", "PruningFiller", "Threshold", "Delta", "StartThreshold", "StepSizeThreshold"}
    assert {*ini_keys(PruneCell)} == {*documented, "GammaThreshold", "Range", "QuantMode"}


def test_every_parameter_can_be_read():
    for kind in (PruneCell, SGD, Rectifier, DIR, *TRANSFORMATIONS.values()):
        types = {kind.__dataclass_fields__[name].type for name in ini_keys(kind).values()}
        assert types <= {*GETTERS}, kind


def test_what_is_not_given_has_its_default():
    assert configured(section_of(), PruneCell, "QWeight.") == PruneCell()


def test_values_come_from_the_first_prefix_that_has_them():
    section = section_of("Solvers.LearningRate=1", "Solvers.Momentum=0.9", "WeightsSolver.LearningRate=2")
    solver = configured(section, SGD, "WeightsSolver.", "Solvers.")
    assert (solver.learning_rate, solver.momentum) == (2, 0.9)


def test_an_illegal_value_is_told_with_its_line_and_key():
    section = section_of("A=1", "QWeight.Threshold=1.5")
    message = r"^net.ini:3: \[x\] QWeight.Threshold=1.5 is illegal: it must be a number in \[0, 1\]$"
    with pytest.raises(ini.IniError, match=message):
        configured(section, PruneCell, "QWeight.")


def test_values_that_do_not_go_together_are_told_with_the_section():
    section = section_of("PruningMode=Gradual", "GammaThreshold=0")
    with pytest.raises(ini.IniError, match=r"^net.ini:3: \[x\] GammaThreshold=0.0 is illegal"):
        configured(section, PruneCell)


def test_a_missing_parameter_is_told():
    with pytest.raises(ini.IniError, match=r"^net.ini:1: \[x\] Height is missing"):
        configured(section_of("Width=3"), Rescale)


@pytest.mark.parametrize(("text", "clamping"), [("0", False), ("1", True), ("-0.5:0.5", "-0.5:0.5")])
def test_clamping_is_a_flag_or_a_range(text, clamping):
    assert configured(section_of(f"Clamping={text}"), SGD).clamping == clamping


def test_lists():
    assert configured(section_of("FirstValue=1 2 3"), RangeAffine).first_value == [1, 2, 3]
    database = configured(section_of("DataPath=/x", "ValidExtensions=png jpg"), DIR)
    assert (database.data_path, database.valid_extensions) == ("/x", ["png", "jpg"])


def test_a_value_of_the_data_is_worked_out_when_it_is_called():
    section = section_of("FirstValue=[data]_GlobalValue.mean")
    document = section.owner
    document.sections["data"] = section_of()
    transformation = configured(section, RangeAffine)
    document.resolver = lambda *_: 3.5
    assert transformation.first_value() == 3.5


def test_chosen_refuses_with_the_reason_and_offers_the_nearest():
    with pytest.raises(ini.IniError, match=r"^net.ini:2: \[x\] Type=Spike is refused: no spikes$"):
        chosen(section_of("Type=Spike"), "Type", {"Frame": 1}, {"Spike": "no spikes"})
    with pytest.raises(ini.IniError, match=r"^net.ini:2: \[x\] Type='Fram' is illegal; did you mean 'Frame'\?"):
        chosen(section_of("Type=Fram"), "Type", {"Frame": 1}, {})
    assert chosen(section_of("Type=Frame"), "Type", {"Frame": 1}, {}) == 1


def test_refused_keys_may_be_0():
    refuse(section_of("LabelsMapping=0"), {"LabelsMapping": "no"})
    with pytest.raises(ini.IniError, match=r"^net.ini:2: \[x\] LabelsMapping is refused: no$"):
        refuse(section_of("LabelsMapping=map.dat"), {"LabelsMapping": "no"})


def test_idle_keys_are_told_of():
    with pytest.warns(ini.IniWarning, match=r"^net.ini:2: \[x\]CachePath has no effect here$"):
        warn_of_idle(section_of("CachePath=cache"), ["CachePath", "StreamPath"])


NUMBERS = [
    (kind, key, kind.__dataclass_fields__[name])
    for kind in (PruneCell, SGD, Adam, *FILLERS.values(), *ACTIVATIONS.values(), *TRANSFORMATIONS.values())
    for key, name in ini_keys(kind).items()
    if kind.__dataclass_fields__[name].type in (int, float) and "check" in kind.__dataclass_fields__[name].metadata
]


@pytest.mark.parametrize(("kind", "key", "field"), NUMBERS, ids=[f"{kind.__name__}.{key}" for kind, key, _ in NUMBERS])
def test_the_range_in_a_message_is_that_of_the_key(kind, key, field):
    with pytest.raises((OptionError, OptionTypeError)) as own:
        field.metadata["check"]("", None)
    legal = str(own.value).partition("it must be ")[2].removesuffix(", not a NoneType")
    assert "inf, inf" not in legal
    before = [
        f"P.{other}=3"
        for other, name in ini_keys(kind).items()
        if name in ("width", "height", "nb_rows") and other != key
    ]
    for text in ("nan", "inf", "x", "", "1e999", "0.5.5", "0x10"):
        with pytest.raises(ini.IniError) as told:
            configured(section_of(f"P.{key}={text}", *before), kind, "P.")
        assert str(told.value) == f"net.ini:2: [x] P.{key}={text!r} is illegal: it must be {legal}"


def test_errors_that_a_class_tells_of_its_parameters_are_told_of_the_keys():
    section = section_of("Solvers.LearningRatePolicy=PolyDecay", "WeightsSolver.MaxIterations=0")
    solver = configured(section, SGD, "WeightsSolver.", "Solvers.")
    message = r"^net.ini:3: \[x\] WeightsSolver.MaxIterations=0 is illegal with Solvers.LearningRatePolicy='PolyDecay'"
    with pytest.raises(ini.IniError, match=message), in_keys(section, SGD, "WeightsSolver.", "Solvers."):
        solver.check()
