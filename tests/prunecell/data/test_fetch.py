"""Fetching one file by name and digest: from an index in a folder of this machine, under pip's own configuration."""

import hashlib
import sys

import pytest

from prunecell.data.fetch import fetch, pip_configuration
from prunecell.errors import DataError

NAME = "Odd_name-0.2-py3-none-any.whl"  # the name of its project is not normalised, as the real one's is not
CONTENT = b"what the wheel holds"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    page = tmp_path / "index" / "odd-name"
    page.mkdir(parents=True)
    (page / NAME).write_bytes(CONTENT)
    (page / "index.html").write_text(f'<a href="{NAME}">{NAME}</a>')
    for option in ("NO_INDEX", "FIND_LINKS", "EXTRA_INDEX_URL"):
        monkeypatch.delenv(f"PIP_{option}", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {page.parent.as_uri()}\n")
    return page


def test_the_file_of_that_digest_is_found(index, tmp_path):
    path = fetch("odd-name==0.2", tmp_path / "downloads", sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert path == index / NAME  # on this machine already: not copied


def test_another_digest_is_passed_over(index, tmp_path):
    (index / NAME).write_bytes(b"changed")
    with pytest.raises(DataError, match=r"odd-name==0\.2 cannot be fetched: no configured index .* SHA-256"):
        fetch("odd-name==0.2", tmp_path, sha256=SHA256)


@pytest.mark.usefixtures("index")
def test_another_version_is_not_taken(tmp_path):
    with pytest.raises(DataError, match="no configured index"):
        fetch("odd-name==0.3", tmp_path, sha256=SHA256)


def test_a_folder_of_wheels_serves_without_an_index(index, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{index} {tmp_path}/that-is-not-there")
    assert fetch("odd-name==0.2", tmp_path, sha256=SHA256).read_bytes() == CONTENT


@pytest.mark.usefixtures("index")
def test_no_index_and_no_folder_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "true")
    with pytest.raises(DataError, match="forbids every index"):
        fetch("odd-name==0.2", tmp_path, sha256=SHA256)


@pytest.mark.usefixtures("index")
def test_an_index_that_does_not_answer_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://127.0.0.1:1/simple")
    with pytest.raises(DataError, match=r"cannot be fetched: ConnectError"):
        fetch("odd-name==0.2", tmp_path, sha256=SHA256)


def test_the_extra_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "unearth", None)
    with pytest.raises(DataError, match=r"pip install 'prunecell\[data\]'"):
        fetch("odd-name==0.2", tmp_path, sha256=SHA256)


def test_pip_variables_win_over_its_files(index, monkeypatch):
    assert pip_configuration()["index-url"] == [index.parent.as_uri()]
    monkeypatch.setenv("PIP_INDEX_URL", "https://one.example https://two.example")
    assert pip_configuration()["index-url"] == ["https://one.example", "https://two.example"]
