"""Which library is loaded, when none is, and how work is shared between threads."""

import os
import shutil
import subprocess
import sys
import threading
import weakref

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


@pytest.mark.parametrize("n_items", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
def test_shares_cover_every_item_once(n_items, n_threads):
    seen = []
    native.in_parallel(lambda begin, end: seen.extend(range(begin, end)), n_items, n_threads=n_threads)
    assert sorted(seen) == list(range(n_items))


@pytest.mark.parametrize("broken", [0, 5])
def test_what_a_share_raises_reaches_the_caller(broken):
    def task(begin, end):
        if begin <= broken < end:
            raise ValueError(begin)

    with pytest.raises(ValueError, match=r"^[03]$"):
        native.in_parallel(task, 6, n_threads=2)


def test_what_several_callers_want_at_once_is_all_done():
    seen = [[] for _ in range(8)]

    def call(mine):
        for _ in range(50):
            native.in_parallel(lambda begin, end: mine.extend(range(begin, end)), 6, n_threads=3)

    callers = [threading.Thread(target=call, args=(mine,)) for mine in seen]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(sorted(mine) == sorted([*range(6)] * 50) for mine in seen)


def test_nothing_is_held_when_the_work_is_done():
    class Held:
        pass

    held = Held()
    gone = weakref.ref(held)
    native.in_parallel(lambda begin, end, held=held: None, 2, n_threads=2)  # noqa: ARG005
    del held
    assert gone() is None


def test_a_forked_process_has_a_pool_of_its_own():
    code = """if True:
        import os, sys
        from prunecell.native import in_parallel
        in_parallel(lambda a, b: None, 4, n_threads=2)
        child = os.fork()
        if child == 0:
            in_parallel(lambda a, b: None, 4, n_threads=2)
            os._exit(7)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=60, env=os.environ, check=False)
    assert done.returncode == 7
