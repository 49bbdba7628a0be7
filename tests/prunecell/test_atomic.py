"""A file is there as a whole, or as it was before."""

import os
import stat
import threading

import pytest

from prunecell.atomic import replacing


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
