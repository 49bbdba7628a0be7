"""Hostile input: a clear error or a fast success; never code run, never a hang."""

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from n2d2 import ini
from n2d2.ini import IniError, effort

pytestmark = pytest.mark.timeout(60)  # what hangs is stopped; the slowest case takes about two seconds


@pytest.fixture(autouse=True)
def _no_models(monkeypatch):
    monkeypatch.delenv("N2D2_MODELS", raising=False)


def read(folder, main, **templates):
    for name, text in templates.items():
        (folder / f"{name}.tpl").write_text(text)
    (folder / "net.ini").write_text(main)
    return ini.read(folder / "net.ini")


def test_ten_thousand_sections_are_read_in_linear_time():
    text = "[s0]\nN=1\n" + "".join(f"[s{i}] s0\nInput=s{i - 1}\nN=[s{i - 1}]N\n" for i in range(1, 10_000))
    document = ini.parse(text)
    assert document.section("s9999").get_int("N") == 1  # the last first: a chain of 10,000 references
    for section in document.having("Input"):
        section.get_int("N")
        section.get_list("Input")
    document.check_all_read()


def test_a_chain_of_inheritance_cannot_fill_the_memory():
    text = "[s0]\n" + "".join(f"[s{i}] s{i - 1}\nK{i}=1\n" for i in range(1, 10_000))
    with pytest.raises(IniError, match="at most 1,000,000 properties, inherited ones included"):
        ini.parse(text)


@pytest.mark.parametrize("leaf", ["", "lol"])
def test_billions_of_laughs_end(leaf):
    text = f"$V0={leaf}\n" + "".join(f"$V{i}={f'${{V{i - 1}}}' * 10}\n" for i in range(1, 50)) + "[s]\nK=${V49}"
    section = ini.parse(text).section("s")
    if leaf:
        with pytest.raises(IniError, match=r"the value of \$V\d exceeds 4,194,304 characters"):
            section.get_str("K")
    else:
        assert section.get_str("K") == ""


def test_all_values_together_are_bounded():
    text = "$V=" + "x" * 2**20 + "\n[s]\n" + "".join(f"K{i}=${{V}}\n" for i in range(100))
    section = ini.parse(text).section("s")
    with pytest.raises(IniError, match="at most 67,108,864 characters of values"):
        [section.get_str(key) for key in section.names()]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for i in range(0,1000000000) %}{% endfor %}", "at most 20,000 template steps"),
        ("{% for i in range(0,1000000000) %}x{% endfor %}", "at most"),
        ("{% for i in range(999999) %}{% for i in range(999999) %}{% endfor %}{% endfor %}", "20,000 template steps"),
        ("{% for i in range(99) %}{% set A %}{{A}}{{A}}{% endset %}{% endfor %}", "67,108,864 characters of lines"),
        ("{% for i in range(999999) %}" + "x" * 2**16 + "{% endfor %}", "67,108,864 characters of lines"),
        ("{% set B %}{% for i in range(999999) %}" + "x" * 2**16 + "{% endfor %}{% endset %}", "characters of lines"),
        ("{% block N %}x{% endblock %}", "20,000 template steps"),
        ("{% include t.tpl %}", r"the template includes itself: t\.tpl -> t\.tpl"),
        ("{% include u.tpl %}", r"the template includes itself: t\.tpl -> u\.tpl -> t\.tpl"),
        ("[{{SECTION_NAME}}x@t.tpl]", r"in a circle, or too deep: t\.tpl -> t\.tpl"),
        ("[{{SECTION_NAME}}x@v.tpl]", r"in a circle, or too deep: t\.tpl -> v\.tpl -> t\.tpl"),
        ("{% include /etc/passwd %}", "is refused"),
        ("{% include /dev/zero %}", "is refused"),
    ],
)
def test_templates_that_ask_for_too_much(tmp_path, monkeypatch, template, message):
    monkeypatch.setitem(effort.LIMITS, "template steps", 20_000)  # not the half million, to be fast
    with pytest.raises(IniError, match=message):
        read(
            tmp_path,
            "[s@t.tpl]\nA=xx\nN=1000000000\n",
            t=template,
            u="{% include t.tpl %}",
            v="[{{SECTION_NAME}}y@t.tpl]",
        )


def test_includes_that_double_one_another_end(tmp_path):
    templates = {f"t{i}": f"{{% include t{i + 1}.tpl %}}" * 2 for i in range(40)}
    with pytest.raises(IniError, match="at most 10,000 statements"):
        read(tmp_path, "[s@t0.tpl]\n", **templates, t40="x")


def test_templates_that_double_one_another_end(tmp_path):
    templates = {f"t{i}": "".join(f"[{{{{SECTION_NAME}}}}{c}@t{i + 1}.tpl]\n" for c in "abcdefgh") for i in range(15)}
    with pytest.raises(IniError, match=r"too much for one file|no such file"):
        read(tmp_path, "[s@t0.tpl]\n", **templates)


@pytest.mark.parametrize(
    "line",
    [
        "K=" + "$(" * 10**6,
        "K=" + "$(1)" * 10**6,
        "K=" + "${" * 10**6,
        "K=" + "[" * 10**6,
        "K=" + "[a]b(" * 10**6,
        "K=" + "1" * 10**6 + "x",
        "K=" + "1 " * 10**6 + "x",
        "[" * 10**6,
        "[a" * 10**6,
        '"' * (10**6 + 1),
        '""' * 10**6,
        "\\\n" * 10**6,
        ";" * 10**6,
        "=" * 10**6,
        "K" * 10**6 + "=1",
    ],
    ids=lambda line: line[:8],
)
def test_long_lines_take_no_longer_than_their_length(line):
    with pytest.raises(IniError):
        ini.parse("[s]\nA=1\n" + line).section("s").get_float("K")


@pytest.mark.parametrize("text", ["[s]\nK=${{{}}}", "[s]\nK=[{}]X", "[s]\nK=[s]{}", "[s]\nK={}", "[s]\nK=$({})"])
def test_messages_stay_short(text):
    section = ini.parse(text.format("A" * 10**6) + "\nABC=1").section("s")
    with pytest.raises(IniError) as caught:
        section.get_choice("K", ["A", "B"])
    assert len(str(caught.value)) < 1000


def test_names_that_no_file_system_takes(tmp_path):
    with pytest.raises(IniError, match="too long"):
        read(tmp_path, f"[s@{'a' * 5000}]")
    with pytest.raises(IniError, match=r"name too long|no such file"):
        read(tmp_path, "[s@t.tpl]", t=f"{{% include {'a' * 5000} %}}")
    (tmp_path / "loop.tpl").symlink_to(tmp_path / "loop.tpl")
    with pytest.raises(IniError, match=r"loop\.tpl"):
        read(tmp_path, "[s@loop.tpl]")


def test_nothing_is_run(tmp_path, capfd):
    code = '__import__("os").system("echo run")'
    document = read(tmp_path, f"[s]\nK=$({code})\n[x@t.tpl]\nP={code}", t="[y]\nK={{P}}\nL=$({{P}})")
    for name, key in (("s", "K"), ("y", "L")):
        with pytest.raises(IniError, match="cannot be calculated"):
            document.section(name).get_str(key)
    assert document.section("y").get_str("K") == code
    for statement in (f"{{{{ {code} }}}}", f"{{% set {code} %}}", f"{{% if {code} == 1 %}}{{% endif %}}"):
        with pytest.raises(IniError):
            read(tmp_path, "[x@t.tpl]", t=statement)
    assert capfd.readouterr().out == ""


PIECES = [
    *"[]{}()$%#;=\n ,.@*+-/'\\",
    *('"', "${", "$(", "{{", "}}", "{% ", " %}", "if ", "for i in range(", "set ", "exists", "endif", "{% endfor %}"),
    *("[s]", "[t@t.tpl]", "[u] s\n", "\nK=", "\n$A=", "${A}", "[s]K", "A", "s", "1", "9", "0.5", "\r\n", "\ufeff", "é"),
    *("ConfigSection=s\n", "{% include t.tpl %}", "{{SECTION_NAME}}"),
]


@settings(max_examples=300)
@given(
    main=st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=40).map("".join)),
    template=st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
)
def test_any_text_is_a_document_or_an_ini_error(tmp_path_factory, main, template):
    folder = tmp_path_factory.getbasetemp()
    (folder / "t.tpl").write_bytes(template.encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ini.IniWarning)
        try:
            document = ini.parse(main, folder=folder)
            for section in (document.globals, *document.sections.values()):
                for key in section.names():
                    for read_key in (section.get_str, section.get_floats, section.get_bool):
                        _or_error(read_key, key)
            document.check_all_read()
        except IniError as error:
            assert str(error)  # noqa: PT017 - one of the two outcomes


def _or_error(read_key, key):
    try:
        read_key(key)
    except IniError as error:
        assert str(error)  # noqa: PT017 - one of the two outcomes
