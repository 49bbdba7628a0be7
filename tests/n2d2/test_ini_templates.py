"""[name@file.tpl]: N2D2's template statements, their places, and which files may be read."""

import pytest

from n2d2 import ini
from n2d2.ini import IniError


@pytest.fixture(autouse=True)
def _no_models(monkeypatch):
    monkeypatch.delenv("N2D2_MODELS", raising=False)


def net(folder, main, **templates):
    """Write a net of a main file and templates (t -> t.tpl), and read it."""
    for name, text in templates.items():
        (folder / f"{name}.tpl").write_text(text)
    (folder / "net.ini").write_text(main)
    return ini.read(folder / "net.ini")


def rendered(folder, template, parameters=""):
    """What a template makes of parameters, as text after K= ."""
    return net(folder, f"[s@t.tpl]\n{parameters}", t=f"[x]\nK={template}").section("x").get_str("K")


BLOCK = """\
[{{SECTION_NAME}}_conv] conv_def
Input={{INPUT}}
NbOutputs={{NB}}
{% if PROJECTION exists %}

[{{SECTION_NAME}}_proj] conv_def
Input={{INPUT}}
NbOutputs=$(2 * {{NB}})
{% set INPUT %}{{SECTION_NAME}}_proj{% endset %}
{% endif %}

[{{SECTION_NAME}}_sum]
Input={{SECTION_NAME}}_conv,{{INPUT}}
NbOutputs=[{{SECTION_NAME}}_conv]NbOutputs
"""

MAIN = """\
$ALPHA=0.5
[conv_def]
Type=Conv
[a@block.tpl]
INPUT=sp
NB=$(int(64 * ${ALPHA}))
PROJECTION=1
[b@block.tpl]
INPUT=a_sum
NB=[a_conv]NbOutputs
"""


def test_sections_know_the_one_that_named_their_template_and_the_one_before(tmp_path):
    template = (
        "[{{SECTION_NAME}}_1]\nK=${PREV_SECTION_NAME} ${PARENT_SECTION_NAME}\n[{{SECTION_NAME}}_2] {{SECTION_NAME}}_1"
    )
    document = net(tmp_path, "[a]\nX=1\n[b@t.tpl]\nI=${PREV_SECTION_NAME}\n[c]\nK=${PREV_SECTION_NAME}", t=template)
    values = [document.section(name).get_str(key) for name, key in (("b", "I"), ("b_1", "K"), ("b_2", "K"), ("c", "K"))]
    assert values == ["a", "a b", "b_1 b", "b_2"]


def test_a_residual_block(tmp_path):
    document = net(tmp_path, MAIN, block=BLOCK)
    assert list(document.sections) == ["conv_def", "a", "a_conv", "a_proj", "a_sum", "b", "b_conv", "b_sum"]
    assert document.section("a_sum").get_list("Input") == ["a_conv", "a_proj"]
    assert document.section("b_sum").get_list("Input") == ["b_conv", "a_sum"]
    assert document.section("a_proj").get_int("NbOutputs") == 64
    assert document.section("b_sum").get_int("NbOutputs") == 32
    assert document.section("b_conv").get_str("Type") == "Conv"


def test_lines_of_a_template_have_its_places(tmp_path):
    document = net(tmp_path, MAIN, block=BLOCK)
    assert str(document.section("a_proj").entry("NbOutputs").place) == f"{tmp_path / 'block.tpl'}:8"
    assert document.section("b_sum").place.line == 12
    assert document.section("b_sum").entry("NbOutputs").place.line == 14


@pytest.mark.parametrize(
    ("template", "parameters", "expected"),
    [
        ("{{A}}{{ A }}", "A=1", "11"),
        ("{{A.b-c}}", "A.b-c=1", "1"),
        ("{% if A exists %}y{% else %}n{% endif %}", "A=", "y"),
        ("{% if A exists %}y{% else %}n{% endif %}", "", "n"),
        ("{% if A not_exists %}y{% else %}n{% endif %}", "", "y"),
        ("{% if A == 1 %}y{% else %}n{% endif %}", "A=1", "y"),
        ('{% if A == "x" %}y{% else %}n{% endif %}', "A=x", "y"),
        ("{% if A != 1 %}y{% else %}n{% endif %}", "A=1", "n"),
        ("{% if A exists %}{% if B exists %}ab{% else %}a{% endif %}{% endif %}", "A=1", "a"),
        ("{% for i in range(3) %}{{i}}{% endfor %}", "", "012"),
        ("{% for i in range(1,3) %}{{i}}{% endfor %}", "", "12"),
        ("{% for i in range(A, B) %}{{i}}{% endfor %}", "A=2\nB=5", "234"),
        ("{% for i in range(2) %}{% for j in range(2) %}{{i}}{{j}} {% endfor %}{% endfor %}", "", "00 01 10 11"),
        ("{% for i in range(3, 1) %}{{i}}{% endfor %}e", "", "e"),
        ("{% set A %}x{{B}}{% endset %}{{A}}", "B=1", "x1"),
        ("{% for i in range(3) %}{% set A %}{{A}}{{i}}{% endset %}{% endfor %}{{A}}", "A=.", ".012"),
        ("{% block L %}{{#}}:{{.P}}{{A}} {% endblock %}", "A=!\nL=2\nL[0].P=a\nL[1].P=b", "0:a! 1:b!"),
        ("{{A}}", "A={{B}} {% if %}", "{{B}} {% if %}"),
        ("{{A}}", "A={{'x'.__class__}}", "{{'x'.__class__}}"),
        ("{# no comment #}", "", "{"),  # a `#` starts a comment of the INI file, as everywhere
    ],
)
def test_statements(tmp_path, template, parameters, expected):
    assert rendered(tmp_path, template, parameters) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{A}}", r"t\.tpl:2: the template's parameter 'A' is not given; did you mean|is not given; legal"),
        ("{{''.__class__.__mro__}}", r"t\.tpl:2: the template's parameter .* is not given"),
        ("{{A", r"t\.tpl:2: \{\{ is not closed by \}\} on its line"),
        ("{{A\n}}", r"t\.tpl:2: \{\{ is not closed"),
        ("{% if A exists %}", r"t\.tpl:2: \{% if %\} is never ended"),
        ("{% endif %}", r"t\.tpl:2: \{% endif %\} without its \{% if %\}"),
        ("{% for i in range(2) %}{% endif %}", r"t\.tpl:2: \{% endif %\} without its \{% if %\}"),
        ("{% else %}", r"t\.tpl:2: \{% else %\} without its \{% if %\}"),
        ("{% iff A exists %}", r"t\.tpl:2: unknown statement \{% iff A exists %\}; did you mean 'if'"),
        ("{% import os %}", r"t\.tpl:2: unknown statement"),
        ("{% %}", r"t\.tpl:2: unknown statement"),
        ("{% if A %}x{% endif %}", r"t\.tpl:2: malformed statement \{% if A %\}"),
        ("{% if A == 1 and B == 2 %}x{% endif %}", r"t\.tpl:2: malformed statement"),
        ("{% for i in [1] %}x{% endfor %}", r"t\.tpl:2: malformed statement"),
        ("{% for i in range(A) %}x{% endfor %}", r"t\.tpl:2: A='A' is illegal: a whole number"),
        ("{% for i in range(1, 2, 3) %}x{% endfor %}", r"t\.tpl:2: malformed statement"),
        ("{% block A %}x{% endblock %}", r"t\.tpl:2: A='A' is illegal: a whole number"),
        ("{% if A == 1 %}x{% endif %}", r"t\.tpl:2: the template's parameter 'A' is not given"),
        ("{% if A exists %}" * 17, r"t\.tpl:2: this is too much for one template: .* nested at most 16 deep"),
        ("{% if A exists %}{% endif %}" * 5000, r"t\.tpl:2: this is too much for one template: at most 10,000"),
    ],
)
def test_malformed_statements_are_refused_with_their_place(tmp_path, template, message):
    with pytest.raises(IniError, match=message):
        rendered(tmp_path, template)


def test_includes_and_nested_templates_lie_beside_the_file_that_names_them(tmp_path):
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks" / "outer.tpl").write_text(
        "[o]\nA=1\n{% include common.tpl %}\n[{{SECTION_NAME}}_i@inner.tpl]\nX=2"
    )
    (tmp_path / "blocks" / "common.tpl").write_text("B={{X}}")
    (tmp_path / "blocks" / "inner.tpl").write_text("[i]\nC={{X}}{{SECTION_NAME}}")
    document = net(tmp_path, "[s@blocks/outer.tpl]\nX=1\n[after]")
    assert list(document.sections) == ["s", "o", "s_i", "i", "after"]
    assert document.section("o").get_int("B") == 1
    assert str(document.section("o").entry("B").place).endswith("common.tpl:1")
    assert document.section("i").get_str("C") == "2s_i"


def test_parameters_that_hang_on_the_built_network_are_handed_on(tmp_path):
    document = net(tmp_path, "[sp]\n[s@t.tpl]\nN=$([sp]_EpochSize * 2)", t="[x]\nK={{N}}")
    document.resolver = lambda *_: 5
    assert document.section("x").get_int("K") == 10


def test_parameters_are_inherited(tmp_path):
    document = net(tmp_path, "[base]\nN=1\n[s@t.tpl] base\nM=2", t="[x]\nK={{N}}{{M}}")
    assert document.section("x").get_int("K") == 12


def test_a_parameter_that_the_template_never_mentions_is_unread(tmp_path):
    template = "[x]\nK={{N}}\n{% if M exists %}{{UNUSED}}{% endif %}{% block L %}{{.P}}{% endblock %}"
    document = net(tmp_path, "[s@t.tpl]\nN=1\nUNUSED=2\nL=1\nL[0].P=\nNN=3", t=template)
    document.section("x").get_int("K")
    with pytest.raises(IniError, match=r"^\S+net\.ini:6: \[s\] NN: nothing reads this key; did you mean 'N'") as caught:
        document.check_all_read()
    assert "\n" not in str(caught.value)


class TestFolders:
    @pytest.mark.parametrize(
        "name", ["/etc/passwd", "../../../../../../etc/passwd", "../secret.tpl", "${N2D2_MODELS}/../secret.tpl"]
    )
    def test_files_outside_are_refused_by_name(self, tmp_path, name):
        folder = tmp_path / "net"
        folder.mkdir()
        (tmp_path / "secret.tpl").write_text("[x]\nK=1")
        with pytest.raises(IniError, match=r"net\.ini:1: template '.*' is refused: it is neither in "):
            net(folder, f"[s@{name}]\n")
        with pytest.raises(IniError, match=r"t\.tpl:1: template '.*' is refused"):
            net(folder, "[s@t.tpl]\n", t=f"{{% include {name} %}}")

    def test_links_that_lead_outside_are_refused(self, tmp_path):
        folder = tmp_path / "net"
        folder.mkdir()
        (tmp_path / "secret.tpl").write_text("[x]\nK=1")
        (folder / "link.tpl").symlink_to(tmp_path / "secret.tpl")
        with pytest.raises(IniError, match="is refused"):
            net(folder, "[s@link.tpl]\n")

    def test_dots_that_stay_inside_are_fine(self, tmp_path):
        (tmp_path / "sub").mkdir()
        document = net(tmp_path, "[s@sub/../t.tpl]\n", t="[x]\nK=1")
        assert document.section("x").get_int("K") == 1

    def test_the_caller_can_widen_the_root(self, tmp_path):
        folder = tmp_path / "net"
        folder.mkdir()
        (tmp_path / "t.tpl").write_text("[x]\nK=1")
        (folder / "net.ini").write_text("[s@../t.tpl]")
        assert ini.read(folder / "net.ini", root=tmp_path).section("x").get_int("K") == 1

    def test_n2d2_models_is_read_too_and_is_the_files_own_folder_when_not_set(self, tmp_path, monkeypatch):
        models, folder = tmp_path / "models", tmp_path / "net"
        models.mkdir()
        folder.mkdir()
        for home, number in ((models, 1), (folder, 2)):
            (home / "t.tpl").write_text(f"[x]\nK={number}")
        main = "[s@${N2D2_MODELS}/t.tpl]\n"
        assert net(folder, main).section("x").get_int("K") == 2
        monkeypatch.setenv("N2D2_MODELS", str(models))
        assert net(folder, main).section("x").get_int("K") == 1
        assert net(folder, "[s@$N2D2_MODELS/t.tpl]\n").section("x").get_int("K") == 1

    def test_a_template_that_is_not_there(self, tmp_path):
        with pytest.raises(IniError, match=r"none\.tpl: there is no such file"):
            net(tmp_path, "[s@none.tpl]\n")
