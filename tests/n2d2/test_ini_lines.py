"""Files to lines: continuation, comments, encodings, and where a line says that it is."""

import pytest

from n2d2 import ini
from n2d2.ini.lines import MAX_FILE_BYTES, logical_lines, physical_lines


def lines(text):
    return [(line.place.line, line.text) for line in logical_lines(physical_lines(text, "net.ini"))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  A=1  \n\n\t\n B = 2 ", [(1, "A=1"), (4, "B = 2")]),
        ("A=1 ; c\nB=2 # c\n; c\n#c", [(1, "A=1"), (2, "B=2")]),
        ('A="; #" ; c', [(1, 'A="; #"')]),
        ('A="x" ; it says "no', [(1, 'A="x"')]),
        ("A=1 \\\n 2 \\\n3\nB=4", [(1, "A=1  2 3"), (4, "B=4")]),
        ("A=1 \\  \n2", [(1, "A=1 2")]),
        ("A=1 \\", [(1, "A=1")]),
        ("; all of this \\\nis comment\nA=1", [(3, "A=1")]),
        ("A=1 \\\n; the rest \\\nB=2\nC=3", [(1, "A=1"), (4, "C=3")]),
    ],
)
def test_continuation_comes_before_comments_and_keeps_the_first_line(text, expected):
    assert lines(text) == expected


def test_an_open_quote_is_refused_with_its_place():
    with pytest.raises(ini.IniError, match=r'^net\.ini:2: a double quote \("\) is opened'):
        lines('A=1\nB="x')


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfA=1\n[s]\nB=\xc3\xa9",
        b"A=1\r\n[s]\r\nB=\xc3\xa9\r\n",
        b"A=1\r[s]\rB=\xc3\xa9",
        b"A=1\n[s]\nB=\xe9",
    ],
    ids=["byte order mark", "Windows", "old Mac", "Latin-1"],
)
def test_encodings_and_line_ends(tmp_path, data):
    path = tmp_path / "net.ini"
    path.write_bytes(data)
    document = ini.read(path)
    assert document.globals.get_int("A") == 1
    assert document.section("s").get_str("B") == "é"


def test_a_byte_order_mark_in_a_text_is_skipped():
    assert ini.parse("\ufeffA=1").globals.get_int("A") == 1


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path):
    for path in (tmp_path / "none.ini", tmp_path):
        with pytest.raises(ini.IniError, match=r"there is no such file|it is no regular file"):
            ini.read(path)


def test_a_file_that_is_too_long_is_refused_unread(tmp_path):
    path = tmp_path / "long.ini"
    with path.open("wb") as file:
        file.truncate(2**30)  # a hole: takes no room on the disk
    with pytest.raises(ini.IniError, match=r"long\.ini: 1,073,741,824 bytes are too many .* 16,777,216 are read"):
        ini.read(path)
    with pytest.raises(ini.IniError, match="characters are too many"):
        ini.parse("A" * (MAX_FILE_BYTES + 1))


def test_binary_files_are_refused():
    with pytest.raises(ini.IniError, match=r"^net\.ini:2: the control character '\\x00'"):
        ini.parse("A=1\nB=\x00", file="net.ini")
