"""What a command is about to write is looked at before any work."""

import os

import pytest

from prunecell.disk.atomic import replacing
from prunecell.disk.targets import check_folder, check_target
from prunecell.errors import OptionError


def test_a_new_file_in_a_folder_may_be_written(tmp_path):
    check_target(tmp_path / "new", tmp_path / "source", force=False)
    check_folder(tmp_path)


@pytest.mark.parametrize("make", ["file", "link", "dangling", "hard link", "source itself", "link to source"])
def test_what_is_there_is_refused_and_left_as_it_is(tmp_path, make):
    target, source = tmp_path / "target", tmp_path / "source"
    source.write_text("mine")
    {
        "file": lambda: target.write_text("other"),
        "link": lambda: (target.with_name("other").write_text("x"), target.symlink_to("other")),
        "dangling": lambda: target.symlink_to("nowhere"),
        "hard link": lambda: target.hardlink_to(source),
        "source itself": lambda: None,
        "link to source": lambda: target.symlink_to("source"),
    }[make]()
    target = source if make == "source itself" else target
    same = make in {"hard link", "source itself", "link to source"}
    fact = "it is the source itself" if same else "it is there already"
    with pytest.raises(OptionError, match=f"{target.name}: {fact}; nothing was done: give another name, or --force"):
        check_target(target, source, force=False)
    check_target(target, source, force=True)
    assert source.read_text() == "mine"


def test_a_folder_is_no_target_even_by_force(tmp_path):
    with pytest.raises(IsADirectoryError, match="it is a folder: give the name of a file in it"):
        check_target(tmp_path, tmp_path / "source", force=True)


def test_a_folder_that_is_not_there_or_locked_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError) as caught:
        check_target(tmp_path / "a" / "b", tmp_path, force=True)
    assert caught.value.filename == str(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        check_folder(tmp_path / "file")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(PermissionError) as caught:
        check_folder(tmp_path)
    assert caught.value.filename == str(tmp_path)


def a_file(folder):
    (folder / "file").touch()
    return folder / "file"


def a_link(folder, to):
    (folder / "link").symlink_to(to)
    return folder / "link"


BAD = {
    "a folder": (lambda here: here, "it is a folder: give the name of a file in it"),
    "a link to a folder": (lambda here: a_link(here, here), "it is a folder: give the name of a file in it"),
    "in no folder": (lambda here: here / "none" / "x.pcell", "there is no folder .*none"),
    "in a file": (lambda here: a_file(here) / "x.pcell", "file is no folder"),
    "a link into no folder": (lambda here: a_link(here, here / "none" / "x"), "there is no folder .*none"),
}


@pytest.mark.parametrize("name", BAD)
def test_who_looks_ahead_and_who_writes_say_the_same(tmp_path, name):
    make, fact = BAD[name]
    path = make(tmp_path)
    with pytest.raises(OSError, match=fact) as early:
        check_target(path, tmp_path / "source", force=True)
    with pytest.raises(OSError, match=fact) as late, replacing(path):
        pytest.fail("the block must not run")
    assert (type(early.value), str(early.value)) == (type(late.value), str(late.value))
    assert early.value.filename == str(path)


def test_a_pipe_may_be_written_to_wherever_it_is(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path) and access(path, mode))
    check_target(tmp_path / "pipe", tmp_path / "source", force=True)
    with pytest.raises(PermissionError, match="no file can be made in the folder"):
        check_target(tmp_path / "file", tmp_path / "source", force=True)
