"""Room on a disk."""

import shutil

import pytest

from prunecell.disk.room import check_room, told


def test_a_disk_with_room_is_passed_and_one_without_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 0, 5_000))
    check_room(tmp_path, 5_000)
    check_room(tmp_path, -1)
    with pytest.raises(OSError, match=r"about 5\.0 kB will be written, and 5\.0 kB are free") as caught:
        check_room(tmp_path, 5_001)
    assert caught.value.filename == str(tmp_path)


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (2.5e9, "2.5 GB"), (7e15, "7000.0 TB")]
)
def test_bytes_for_people(n_bytes, text):
    assert told(n_bytes) == text
