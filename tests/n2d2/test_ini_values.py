"""Variables, references and arithmetic in values."""

import pytest

from n2d2 import ini
from n2d2.ini import IniError


def value(text, section="s", key="K", resolver=None):
    document = ini.parse(text, file="t")
    document.resolver = resolver
    return document.section(section).get_str(key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A=1\n[s]\nK=x${A}y${A}", "x1y1"),
        ("$A=1\n[s]\n$A=2\nK=${A}", "2"),
        ("[s]\nK=${A}\n$A=2", "2"),
        ("$A=${B}\n$B=3\n[s]\nK=${A}", "3"),
        ("[s]\nK=${SECTION_NAME}.x", "s.x"),
        ("[b]\nK=${SECTION_NAME}\n[s] b", "s"),
        ("$A=0\n[b]\n$A=1\nK=${A}\n[s] b", "1"),
        ("[b]\n$A=1\nK=${A}\n[s] b\n$A=2", "2"),
        ("[s]\nConfigSection=c\n[c]\nK=${SECTION_NAME}", "s"),
        ("[a]\nX=1\n[s]\nK=${PREV_SECTION_NAME}", "a"),
        ("[b]\nK=${PREV_SECTION_NAME}\n[a]\nX=1\n[s] b", "a"),
        ("[s]\nK=x${PREV_SECTION_NAME}", "x"),
        ("[s]\nK=x${PARENT_SECTION_NAME}", "x"),
        ("[s]\nConfigSection=c\n[c]\n$A=1\nK=${A}", "1"),
        ("[s]\n$A=2\nConfigSection=c\n[c]\n$A=1\nK=${A}", "2"),
        ("$C=c\n[s]\nConfigSection=${C}\n[c]\nK=1", "1"),
        ("[s]\nK=[o]X [o]Y\n[o]\nX=1\nY=2", "1 2"),
        ("[s]\nK=[o.1/a:b]X.y\n[o.1/a:b]\nX.y=[p]Z\n[p]\nZ=4", "4"),
        ("[b]\nX=1\n[o] b\n[s]\nK=[o]X", "1"),
        ("$N=o\n[s]\nK=[${N}]X\n[o]\nX=1", "1"),
        ("[s]\nK=[o]Mapping(a)\n[o]\nMapping(a)=1 0", "1 0"),
        ("[s]\nK=[1, 2] [x] y", "[1, 2] [x] y"),
        ("[s]\nK=[o]NbChannels\n[o]\nNbOutputs=6", "6"),
        ("[s]\nK=[o]NbOutputs\n[o]\nNbChannels=6", "6"),
        ("[s]\nK=[sp]NbChannels\n[sp]\nNbChannels=3", "3"),
        ("$A=0.5\n[s]\nK=$(64 * ${A}) $(7 // 2)", "32 3"),
        ("[s]\nK=$(2 * [o]X)\n[o]\nX=$(1 + 1)", "4"),
        ("[s]\nK=$(1 + $(2 * 3))", "7"),
        ("$A=1 + 2\n[s]\nK=$(${A} * 2)", "5"),
        ("[s]\nK=a$b ${c", "a$b ${c"),
        ('[s]\nK="a=b;c"', "a=b;c"),
        ("[s]\nK=", ""),
    ],
)
def test_what_is_put_in(text, expected):
    assert value(text) == expected


def test_a_variable_that_is_another_but_for_underscores_is_that_one():
    with pytest.warns(
        ini.IniWarning, match=r"t:3: \[s\]K: \$\{STEPDECAY\} is defined nowhere; \$\{STEP_DECAY\} is taken"
    ):
        assert value("$STEP_DECAY=0.1\n[s]\nK=${STEPDECAY}") == "0.1"


def test_properties_of_the_built_network_come_from_the_resolver_when_they_are_asked_for():
    known = {("sp", "_EpochSize"): 48000, ("sp", "_GlobalValue.mean"): "0.1 0.2"}
    text = "[sp]\nSizeX=3\n[s]\nK=$([sp]_EpochSize / 128)\nM=[sp]_GlobalValue.mean\nX=[sp]SizeX"
    document = ini.parse(text, file="t")
    section = document.section("s")
    with pytest.raises(IniError, match=r"^t:4: \[s\]K: \[sp\]_EpochSize is given by no line"):
        section.get_int("K")
    document.resolver = lambda section, key: known.get((section, key))
    assert section.get_int("K") == 375
    assert section.get_floats("M") == [0.1, 0.2]
    assert section.get_int("X") == 3


def test_the_resolver_may_know_nothing():
    with pytest.raises(IniError, match=r"^t:2: \[s\]K: \[sp\]Size is not there; did you mean 'SizeX'"):
        value("[s]\nK=[sp]Size\n[sp]\nSizeX=1\n", resolver=lambda *_: None)


def test_fractions_of_computed_whole_numbers_are_cut_off():
    text = "[s]\nK=$(7 / 2)\nL=[s]K\nM=3.5\nN=$(-7 / 2) 2\n"
    section = ini.parse(text).section("s")
    assert section.get_int("K") == 3
    assert section.get_int("L") == 3
    assert section.get_ints("N", low=-3) == [-3, 2]
    assert section.get_float("K") == 3.5
    with pytest.raises(IniError):
        section.get_int("M")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$LRATE=1\n[s]\nK=${LRAT}", r"^t:3: \[s\]K: \$\{LRAT\} is defined nowhere; did you mean 'LRATE'\?"),
        ("[s]\nK=[o]X", r"^t:2: \[s\]K: there is no section \[o\]"),
        ("[s]\nK=$(1 + )", r"^t:2: \[s\]K: \$\(1 \+ \) cannot be calculated: it is not arithmetic"),
        ("[s]\nK=$(1", r"^t:2: \[s\]K: \$\( is not closed by \)"),
        ('[s]\nK=$(__import__("os").system("id"))', r"^t:2: \[s\]K: \$\(__import__.* cannot be calculated"),
        ("[s]\nK=${A}\n$A=x${A}", r"^t:3: the value of \[s\]\$A hangs on itself: \[s\]\$A -> \[s\]\$A$"),
        ("$A=${B}\n$B=${A}\n[s]\nK=${A}", r"^t:2: the value of \$B hangs on itself: \$A -> \$B -> \$A$"),
        ("[s]\nK=[o]X\n[o]\nX=$([s]K + 1)", r"^t:4: the value of \[o\]X hangs on itself: \[s\]K -> \[o\]X -> \[s\]K$"),
    ],
)
def test_names_that_lead_nowhere_or_in_circles_are_refused_with_their_place(text, message):
    with pytest.raises(IniError, match=message):
        value(text)


def test_a_configuration_section_may_not_hang_on_itself():
    document = ini.parse("[s]\nConfigSection=${C}\n$C=[s]ConfigSection", file="t")
    with pytest.raises(IniError, match="hangs on itself"):
        document.section("s").get_str("K")


def test_n2d2s_environment_variables(tmp_path, monkeypatch):
    path = tmp_path / "net.ini"
    path.write_text("[database]\nDataPath=${N2D2_DATA}/mnist\nLabels=${N2D2_MODELS}/labels.dat\n")
    monkeypatch.setenv("N2D2_DATA", "/data")
    monkeypatch.delenv("N2D2_MODELS", raising=False)
    section = ini.read(path).section("database")
    assert section.get_str("DataPath") == "/data/mnist"
    assert section.get_str("Labels") == f"{tmp_path}/labels.dat"
    monkeypatch.delenv("N2D2_DATA")
    with pytest.raises(IniError, match=r"\$\{N2D2_DATA\} is defined nowhere"):
        ini.read(path).section("database").get_str("DataPath")
