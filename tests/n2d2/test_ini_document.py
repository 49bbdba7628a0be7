"""Sections: inheritance, configuration sections, typed getters, and keys that nobody reads."""

import warnings

import pytest

from n2d2 import ini
from n2d2.ini import IniError, IniWarning

NET = """
DefaultModel=Frame
$LR=0.05

[conv_def]
Type=Conv
KernelDims=5 5
Stride=1
ConfigSection=common.config

[relu_def]
ActivationFunction=Rectifier
Stride=2

[conv1] conv_def relu_def
Input=sp, env
NbOutputs=6
Stride=3
Path="a;b"
Scale=-1.5e-1
Flag=True

[conv2]relu_def conv_def
NoBias=0
Solvers.LearningRate=7
ConfigSection=common.config,own.config

[common.config]
NoBias=1
Solvers.LearningRate=${LR}

[own.config]
NoBias=0
"""


@pytest.fixture
def net():
    return ini.parse(NET, file="net.ini")


def test_sections_are_in_their_order(net):
    assert list(net.sections) == ["conv_def", "relu_def", "conv1", "conv2", "common.config", "own.config"]


def test_own_lines_override_bases_and_the_first_base_wins(net):
    conv1, conv2 = net.section("conv1"), net.section("conv2")
    assert [base.name for base in conv1.bases] == ["conv_def", "relu_def"]
    assert conv1.get_int("Stride") == 3
    assert conv2.get_int("Stride") == 2
    assert conv2.get_str("Type") == "Conv"


def test_configuration_sections_override_the_section_and_the_last_wins(net):
    conv1, conv2 = net.section("conv1"), net.section("conv2")
    assert conv1.get_bool("NoBias") is True
    assert conv2.get_bool("NoBias") is False
    assert conv2.get_float("Solvers.LearningRate") == 0.05
    assert str(conv2.entry("Solvers.LearningRate").place) == "net.ini:30"


def test_the_configuration_for_a_model_takes_the_place_of_that_for_all():
    lines = (
        "ConfigSection=a",
        "ConfigSection(Spike)=b",
        "ConfigSection(Frame)=c",
        "[a]",
        "K=1",
        "[b]",
        "K=2",
        "[c]",
        "K=3",
    )
    for model, expected in (("Frame", 3), ("Frame_CUDA", 1)):
        in_file = ini.parse("\n".join([f"DefaultModel={model}", "[s]", *lines]))
        in_section = ini.parse("\n".join(["DefaultModel=Spike", "[s]", f"Model={model}", *lines]))
        for document in (in_file, in_section):
            assert document.section("s").get_int("K") == expected
            assert document.globals.get_str("DefaultModel")
            assert document.section("s").get_str("Model", model) == model
            with pytest.warns(IniWarning, match="nothing uses"):
                document.check_all_read()


def test_keys_are_read_under_the_names_that_they_once_had():
    document = ini.parse("[conv]\nMap(a)=1 0\nNbChannels=6\n[sp]\nNbChannels=3")
    conv, sp = document.section("conv"), document.section("sp")
    assert conv.get_ints("Mapping(a)") == [1, 0]
    assert conv.get_int("NbOutputs") == 6
    assert sp.get_int("NbChannels") == 3
    document.check_all_read()


def test_whole_numbers_may_have_a_fraction_of_zeros():
    assert ini.parse("[s]\nK=76800000.0").section("s").get_int("K") == 76_800_000


def test_getters(net):
    conv = net.section("conv1")
    assert conv.get_ints("KernelDims", low=1) == [5, 5]
    assert conv.get_floats("KernelDims") == [5.0, 5.0]
    assert conv.get_list("Input") == ["sp", "env"]
    assert conv.get_str("Path") == "a;b"
    assert conv.get_float("Scale", low=-1, high=0) == -0.15
    assert conv.get_bool("Flag") is True
    assert conv.get_choice("Type", ["Conv", "Fc"]) == "Conv"
    assert conv.names("K") == ["KernelDims"]
    assert "Input" in conv
    assert "Mapping" not in conv


def test_defaults(net):
    conv = net.section("conv1")
    assert conv.get_int("A", 4) == 4
    assert conv.get_float("B", 0.5) == 0.5
    assert conv.get_bool("C", False) is False  # noqa: FBT003 - the default itself
    assert conv.get_str("D", "") == ""
    assert conv.get_ints("E", []) == []
    assert conv.get_floats("F", [1.0]) == [1.0]
    assert conv.get_list("G", ["sp"]) == ["sp"]
    assert conv.get_choice("H", ["Sum"], "Max") == "Max"


@pytest.mark.parametrize(
    ("text", "read", "message"),
    [
        ("K=5 x", lambda s: s.get_ints("K", low=1), "K='5 x' is illegal: it must be whole numbers >= 1"),
        ("K=", lambda s: s.get_ints("K"), "K='' is illegal"),
        ("K=0", lambda s: s.get_int("K", low=1), "K='0' is illegal: it must be a whole number >= 1"),
        ("K=2.5", lambda s: s.get_int("K"), "K='2.5' is illegal"),
        ("K=1_0", lambda s: s.get_int("K"), "K='1_0' is illegal"),
        ("K=" + "9" * 5000, lambda s: s.get_int("K"), r"K='9{100}\.\.\.' is illegal"),
        ("K=nan", lambda s: s.get_float("K"), r"K='nan' is illegal: it must be a finite number"),
        ("K=1e999", lambda s: s.get_float("K"), "K='1e999' is illegal"),
        ("K=1.5", lambda s: s.get_float("K", low=0, high=1), r"K='1.5' is illegal: it must be .* in \[0, 1\]"),
        ("K=1 inf", lambda s: s.get_floats("K"), "K='1 inf' is illegal: it must be finite numbers"),
        ("K=yes", lambda s: s.get_bool("K"), "K='yes' is illegal: it must be 0 or 1"),
        ("K=Maxx", lambda s: s.get_choice("K", ["Max", "Sum"]), "K='Maxx' is illegal; did you mean 'Max'"),
        ("k=1", lambda s: s.get_int("K"), "K is missing"),
        ("Strid=1", lambda s: s.get_int("Stride"), "Stride is missing; is 'Strid' misspelt"),
    ],
)
def test_illegal_values_are_named_with_place_value_and_what_is_legal(text, read, message):
    document = ini.parse(f"[s]\n{text}", file="net.ini")
    with pytest.raises(IniError, match=rf"^net\.ini:[12]: \[s\] {message}"):
        read(document.section("s"))


def test_refused_keys_and_illegal_values_point_to_the_line_that_gives_them(net):
    conv = net.section("conv1")
    assert str(conv.refuse("Type", "not here")) == "net.ini:6: [conv1] Type is refused: not here"
    assert str(conv.error("NbOutputs", "it must be 7")).startswith("net.ini:17: [conv1] NbOutputs='6' is illegal")
    assert str(conv.refuse("Absent", "no")).startswith("net.ini:15: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\n[b] a2\n[a2]", r"^t:2: \[b\] inherits from \[a2\], which is no section above it; did you mean 'a'"),
        ("[a] a", r"^t:1: \[a\] inherits from \[a\], which is no section above"),
        ("[a] b\n[b] a", r"^t:1: \[a\] inherits from \[b\], which is no section above"),
        ("[a]\nX=1\n[a]", r"^t:3: section \[a\] is there already, at t:1"),
        ("[a\nX=1", r"^t:1: '\[a' is no header"),
        ("[]", r"^t:1: '\[\]' is no header"),
        ("[ ]", r"^t:1: a name is missing"),
        ("[a]]", r"^t:1: '\[a\]\]' is no header"),
        ("[a]\nNbOutputs", r"^t:2: 'NbOutputs' is neither \[section\] nor NAME=value"),
        ("=1", r"^t:1: a name is missing"),
        ("A" * 201 + "=1", r"^t:1: the name 'A{100}\.\.\.' is too long: at most 200 characters"),
        ("[a@b.tpl]\nX=1", r"^t:1: template 'b\.tpl': a text that came from no file"),
    ],
)
def test_malformed_lines(text, message):
    with pytest.raises(IniError, match=message):
        ini.parse(text, file="t")


def test_names_are_case_sensitive():
    document = ini.parse("[a]\nx=1\nX=2\n[A]\nx=3")
    assert document.section("a").get_int("x") == 1
    assert document.section("A").get_int("x") == 3


def test_a_key_given_twice_warns_and_the_later_one_counts():
    with pytest.warns(IniWarning, match=r"^t:3: \[s\] K is given again and overrides t:2$"):
        document = ini.parse("[s]\nK=1\nK=2", file="t")
    assert document.section("s").get_int("K") == 2


def test_overriding_an_inherited_key_does_not_warn():
    assert ini.parse("[a]\nK=1\n[b] a\nK=2").section("b").get_int("K") == 2


def test_a_missing_section_is_named_with_the_nearest():
    with pytest.raises(IniError, match=r"section \[sp2\] is missing; did you mean 'sp'"):
        ini.parse("[sp]\n[database]").section("sp2")


def test_a_missing_configuration_section_is_named():
    document = ini.parse("[s]\nA=1\nConfigSection=comon\n[common]", file="t")
    with pytest.raises(
        IniError, match=r"^t:3: \[s\] ConfigSection: there is no section \[comon\]; did you mean 'common'"
    ):
        document.section("s").get_int("A")


def test_sections_by_key_and_by_prefix(net):
    assert [s.name for s in net.having("Input")] == ["conv1"]
    assert [s.name for s in net.starting_with("conv")] == ["conv_def", "conv1", "conv2"]


class TestUnread:
    @staticmethod
    def read_all(document):
        for section in document.having("Type"):
            section.get_str("Type")
            section.get_int("Stride", 1)
            section.get_float("Solvers.LearningRate", 0.01)
        document.check_all_read()

    def test_an_unread_key_is_an_error_with_its_place_and_the_nearest(self):
        document = ini.parse("[a]\nType=Conv\nStrid=2", file="t")
        with pytest.raises(IniError, match=r"^t:3: \[a\] Strid: nothing reads this key; did you mean 'Stride'\?"):
            self.read_all(document)

    def test_every_one_is_reported(self):
        document = ini.parse("Gobal=1\n[a]\nType=Conv\nX=2\nY=3", file="t")
        with pytest.raises(IniError) as caught:
            self.read_all(document)
        assert [line.split(":")[1] for line in str(caught.value).split("\n")] == ["1", "4", "5"]

    def test_lenient_makes_them_warnings(self):
        document = ini.parse("[a]\nType=Conv\nStrid=2", file="t", lenient=True)
        with pytest.warns(IniWarning, match="nothing reads this key"):
            self.read_all(document)

    def test_what_bases_and_configurations_give_to_some_reader_is_read(self):
        self.read_all(
            ini.parse("$X=1\n[b]\nType=Conv\nStride=2\n[a] b\nConfigSection=c\n[c]\nSolvers.LearningRate=1\n$Y=1")
        )

    def test_what_is_overridden_for_every_reader_is_not_unknown(self):
        document = ini.parse("[b]\nStride=2\n[a] b\nType=Fc\nStride=1\nConfigSection=c,d\n[c]\nStride=3\n[d]\nStride=4")
        self.read_all(document)

    def test_a_key_of_a_configuration_that_no_user_reads_is_an_error(self):
        document = ini.parse("[a]\nType=Fc\nConfigSection=c\n[c]\nSolvers.LearningRat=1", file="t")
        with pytest.raises(
            IniError, match=r"^t:5: \[c\] Solvers\.LearningRat: .* did you mean 'Solvers\.LearningRate'"
        ):
            self.read_all(document)

    def test_a_key_of_a_base_that_no_heir_reads_is_an_error(self):
        document = ini.parse("[b]\nStrides=1\n[a] b\nType=Fc", file="t")
        with pytest.raises(IniError, match=r"^t:2: \[b\] Strides: nothing reads this key; did you mean 'Stride'"):
            self.read_all(document)

    def test_a_referenced_key_is_read(self):
        document = ini.parse("[sizes]\nWidth=3\n[a]\nType=Conv\nStride=[sizes]Width")
        self.read_all(document)

    def test_idle_sections_warn(self):
        document = ini.parse("[a]\nType=Fc\n" + "".join(f"[idle{i}]\nX=1\n" for i in range(12)), file="t")
        with pytest.warns(IniWarning, match=r"^t:3: nothing uses \[idle0\], .*, \[idle9\] and 2 more$"):
            self.read_all(document)

    def test_idle_sections_that_look_misspelt_are_errors(self):
        document = ini.parse("[a]\nType=Fc\n[sp.Transfrmation-1]\nX=1\n[a.Tagret]", file="t")
        document.starting_with("sp.Transformation")
        document.get("a.Target")
        with pytest.raises(IniError) as caught:
            self.read_all(document)
        assert str(caught.value).split("\n") == [
            "t:3: nothing uses [sp.Transfrmation-1]; did you mean [sp.Transformation]?",
            "t:5: nothing uses [a.Tagret]; did you mean [a.Target]?",
        ]

    def test_an_empty_section_that_was_asked_for_is_no_idle_one(self):
        document = ini.parse("[a]\nType=Fc\n[a.Target]")
        document.section("a.Target")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.read_all(document)

    def test_a_long_list_is_cut(self):
        document = ini.parse("[a]\nType=Fc\n" + "".join(f"X{i}=1\n" for i in range(5000)))
        with pytest.raises(IniError) as caught:
            self.read_all(document)
        assert len(str(caught.value).split("\n")) == 21
        assert str(caught.value).endswith("and more")
