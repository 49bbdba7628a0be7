"""Which library is loaded, and when none is."""

import shutil

import pytest

from prunecell import native
from prunecell.errors import OptionError, UnknownNameError
from prunecell.native import load, sources


@pytest.fixture(autouse=True)
def _choose_again(monkeypatch):
    """Every test chooses the library anew, and leaves the choice open for the next."""
    monkeypatch.delenv(native.ENVIRONMENT, raising=False)
    cached = load.library, load.library_of
    native.library.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def test_the_best_level_that_the_cpu_runs_is_loaded():
    best = native.library()
    assert best is not None
    assert f"_kernels_v{native.cpu_level()}" in best._name


@pytest.mark.parametrize("level", list(native.LEVELS))
def test_the_environment_names_the_level(monkeypatch, level):
    if native.LEVELS[level] > native.cpu_level():
        monkeypatch.setenv(native.ENVIRONMENT, level)
        with pytest.raises(OptionError, match=f"{native.ENVIRONMENT}='{level}' is illegal: this CPU runs no more"):
            native.library()
    else:
        monkeypatch.setenv(native.ENVIRONMENT, level)
        assert f"_kernels_{level}" in native.library()._name


def test_none_means_the_twins_without_a_warning(monkeypatch):
    monkeypatch.setenv(native.ENVIRONMENT, "none")
    assert native.library() is None


def test_an_unknown_level_is_refused_by_name(monkeypatch):
    monkeypatch.setenv(native.ENVIRONMENT, "v5")
    with pytest.raises(UnknownNameError, match=r"PRUNECELL_KERNELS='v5' is illegal; legal: none, v1"):
        native.library()


def test_without_libraries_one_warning_says_what_to_do(monkeypatch):
    monkeypatch.setattr(load, "library_of", lambda _level: None)
    with pytest.warns(RuntimeWarning, match="Install a C\\+\\+ compiler and reinstall") as seen:
        assert [native.library(), native.library()] == [None, None]
    assert len(seen) == 1


@pytest.mark.parametrize("edited", [path.relative_to(sources.FOLDER).as_posix() for path in sources.files()])
def test_a_library_that_is_older_than_any_file_of_its_source_is_not_loaded(monkeypatch, tmp_path, edited):
    shutil.copytree(sources.FOLDER, tmp_path / "native")
    with (tmp_path / "native" / edited).open("ab") as file:
        file.write(b"\n")
    stale = sources.checksum(tmp_path / "native")
    monkeypatch.setattr(sources, "checksum", lambda: stale)
    load.library_of.cache_clear()
    assert native.library_of("v1") is None


def test_every_library_carries_the_checksum_of_the_source():
    for level in native.LEVELS:
        if (found := native.library_of(level)) is not None:
            assert found.pc_source_checksum() == sources.checksum()


def test_the_checksum_does_not_depend_on_where_the_source_lies_or_on_files_that_are_not_cpp(tmp_path):
    shutil.copytree(sources.FOLDER, tmp_path / "native")
    (tmp_path / "native" / "notes.txt").write_text("not compiled")
    assert sources.checksum(tmp_path / "native") == sources.checksum()


def test_the_checksum_knows_a_file_that_was_renamed(tmp_path):
    shutil.copytree(sources.FOLDER, tmp_path / "native")
    (tmp_path / "native" / "words.h").rename(tmp_path / "native" / "zwords.h")
    assert sources.checksum(tmp_path / "native") != sources.checksum()
