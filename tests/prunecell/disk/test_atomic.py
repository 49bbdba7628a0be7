"""A file is there as a whole, or as it was before."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from prunecell.disk.atomic import replacing
from prunecell.files import unpack
from prunecell.files.contents import contents_of
from prunecell.files.formats import WRITERS
from prunecell.report.picture import draw_run
from prunecell.training.checkpoint import Checkpoint
from prunecell.training.progress import Progress


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there", [False, True])
def test_what_fails_leaves_what_was_there(tmp_path, there):
    path = tmp_path / "file"
    if there:
        path.write_bytes(b"old")

    def stopped():
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [found.read_bytes() for found in tmp_path.iterdir()] == [b"old"] * there


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"), replacing(tmp_path / "file") as file:
        file.write(b"all")
    assert not list(tmp_path.iterdir())


def test_many_writers_of_one_file_do_not_mix(tmp_path):
    def write(byte):
        with replacing(tmp_path / "file") as file:
            for _ in range(50):
                file.write(byte * 1000)

    threads = [threading.Thread(target=write, args=(bytes([n]),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = (tmp_path / "file").read_bytes()
    assert content == content[:1] * 50_000
    assert len(list(tmp_path.iterdir())) == 1


def test_the_file_has_the_rights_of_a_new_file(tmp_path):
    with replacing(tmp_path / "file"):
        pass
    (tmp_path / "plain").touch()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


# ---- what a replaced file keeps


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666, 0o755, 0o777])
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_replaced_file_keeps_its_mode(tmp_path, mode, umask):
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    before = os.umask(umask)
    try:
        with replacing(path) as file:
            draft = next(found for found in tmp_path.iterdir() if found != path)
            assert stat.S_IMODE(draft.stat().st_mode) & ~mode == 0
            file.write(b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
def test_a_new_file_has_the_mode_of_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "file"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
def test_a_replaced_file_keeps_its_owner_and_group(tmp_path):
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o640)
    os.chown(path, 12345, 23456)
    with replacing(path) as file:
        file.write(b"new")
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, 0o640)


def test_where_the_group_cannot_be_kept_it_may_not_read(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o664)
    if os.geteuid() == 0:
        os.chown(path, -1, 23456)
    else:
        pytest.skip("only root may give files to any group")

    def forbidden(*_):
        raise PermissionError

    monkeypatch.setattr(os, "fchown", forbidden)
    with replacing(path):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


# ---- links


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("there", [False, True])
def test_links_are_followed(tmp_path, relative, length, there):
    (tmp_path / "far").mkdir()
    (tmp_path / "links").mkdir()
    target = tmp_path / "far" / "target"
    if there:
        target.write_bytes(b"old")
        target.chmod(0o600)
    to = target
    for number in range(length):
        link = tmp_path / "links" / f"link{number}"
        link.symlink_to(os.path.relpath(to, link.parent) if relative else to)
        to = link
    with replacing(to) as file:
        file.write(b"new")
    assert to.is_symlink()
    assert not target.is_symlink()
    assert target.read_bytes() == b"new"
    assert not there or stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [found.name for found in (tmp_path / "far").iterdir()] == ["target"]
    assert len(list((tmp_path / "links").iterdir())) == length


def test_a_folder_may_be_a_link(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to("far")
    with replacing(tmp_path / "near" / "file") as file:
        file.write(b"new")
    assert (tmp_path / "far" / "file").read_bytes() == b"new"


# ---- errors name what the user typed


def loop(folder):
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    return folder / "a"


def a_folder(folder):
    (folder / "there").mkdir()
    return folder / "there"


def linked_folder(folder):
    (folder / "link").symlink_to(a_folder(folder))
    return folder / "link"


def below_a_file(folder):
    (folder / "file").touch()
    return folder / "file" / "below"


PLACES = {
    "a loop of links": (loop, errno.ELOOP),
    "a folder": (a_folder, errno.EISDIR),
    "a link to a folder": (linked_folder, errno.EISDIR),
    "in no folder": (lambda folder: folder / "none" / "file", errno.ENOENT),
    "in a file": (below_a_file, errno.ENOTDIR),
    "a name too long": (lambda folder: folder / ("x" * 256), errno.ENAMETOOLONG),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_place_where_nothing_can_be_written_is_told_by_the_name_that_was_given(tmp_path, place):
    make, code = PLACES[place]
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError, match=path.name) as caught, replacing(path):
        pytest.fail("the block must not run")
    assert (caught.value.errno, caught.value.filename) == (code, str(path))
    assert ".tmp" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def as_nobody(work):
    """The exit status of a child without root's rights that does it: 0, or the error's number where it names "file"."""
    child = os.fork()
    if not child:
        status = 255
        try:
            if os.geteuid() == 0:
                os.setgid(12345)
                os.setuid(12345)
            work()
            status = 0
        except OSError as error:
            status = error.errno if str(error.filename).endswith("/file") and ".tmp" not in str(error) else 254
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def open_path(tmp_path):
    """A folder that everybody may enter."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/tmp") and folder.owner() == Path.home().owner():  # noqa: S108
            folder.chmod(folder.stat().st_mode | 0o055)
    return tmp_path


def write(path):
    with replacing(path) as file:
        file.write(b"new")


def test_a_folder_that_may_not_be_written_to_is_told(open_path):
    (open_path / "shut").mkdir(mode=0o555)
    assert as_nobody(lambda: write(open_path / "shut" / "file")) == errno.EACCES


def test_a_file_that_may_not_be_written_to_is_not_replaced(open_path):
    open_path.chmod(0o777)
    path = open_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o444)
    assert as_nobody(lambda: write(path)) == errno.EACCES
    assert path.read_bytes() == b"old"


# ---- names of drafts


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\u4e2d", "\U0001f600", os.fsdecode(b"\xff")])
def test_a_name_as_long_as_the_system_allows(tmp_path, letter):
    path = tmp_path / (letter * (255 // len(os.fsencode(letter))))
    for content in (b"old", b"new"):
        with replacing(path) as file:
            file.write(content)
    assert path.read_bytes() == b"new"
    assert len(os.listdir(tmp_path)) == 1  # noqa: PTH208 - a name that is no UTF-8


KILLED = """
import os, signal, sys
from pathlib import Path
from prunecell.disk.atomic import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_drafts_of_killed_runs_are_removed_and_no_others(tmp_path):
    path = tmp_path / "model.pcell"
    path.write_bytes(b"old")
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert len(list(tmp_path.glob(".model.pcell.*.tmp"))) == 1  # the second run removes what the first has left
    for name in (
        ".other.pcell.01234567.tmp",
        ".model.pcell.tmp",
        ".model.pcell.0123456x.tmp",
        "model.pcell.01234567.tmp",
    ):
        (tmp_path / name).touch()
    with replacing(path) as first:
        with replacing(path) as second:
            second.write(b"second")
        first.write(b"first")  # its draft is still there: it was locked
    assert path.read_bytes() == b"first"
    assert len(list(tmp_path.iterdir())) == 5


def test_what_is_named_like_a_draft_and_is_no_file_stays(tmp_path):
    (tmp_path / ".file.00000000.tmp").symlink_to("precious")
    (tmp_path / "precious").touch()
    os.mkfifo(tmp_path / ".file.11111111.tmp")
    (tmp_path / ".file.22222222.tmp").mkdir()
    write(tmp_path / "file")
    assert (tmp_path / "precious").exists()
    assert (tmp_path / ".file.00000000.tmp").is_symlink()


def test_the_folder_may_change_meanwhile(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    with replacing(Path("file")) as file:
        os.chdir("other")
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not list((tmp_path / "other").iterdir())


# ---- what cannot be replaced


def test_a_pipe_is_written_into(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    write(path)
    reader.join()
    assert found == [b"new"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_device_is_written_into(tmp_path):
    (tmp_path / "null").symlink_to("/dev/null")
    write(tmp_path / "null")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    done = subprocess.run(
        [sys.executable, "-c", f"{KILLED.partition('    file.flush')[0]}", "/dev/stdout"],
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout == b"half"


# ---- a disk that is full


@pytest.mark.parametrize("ending", WRITERS)
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, ending):
    torch.manual_seed(0)
    source, full = tmp_path / "model.pcell", tmp_path / f"full{ending}"
    WRITERS[".pcell"](contents_of({"weight": torch.randn(100, 100)}), source)
    full.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*/full") as caught:
        unpack(source, full)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(full))


def test_a_checkpoint_or_picture_on_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "full"
    path.symlink_to("/dev/full")
    for work in (
        lambda: Checkpoint(path=path).save({"progress": Progress()}),
        lambda: draw_run(path, title="", sparsity=[], accuracies={}, n_epochs=1),
    ):
        with pytest.raises(OSError, match=r"No space left on device: '.*/full'"):
            work()
