"""Checksums are those of zlib."""

import zlib

import numpy as np
import pytest

from prunecell.codecs.checksums import crc32

pytestmark = pytest.mark.usefixtures("level")


@pytest.mark.parametrize("size", [0, 1, 63, 64, 1 << 15, (1 << 15) + 1, (1 << 16) + 63, 1 << 20])
def test_the_checksum_is_that_of_zlib_from_any_state_on(size):
    data = np.random.default_rng(size).integers(0, 256, size + 1, np.uint8)[1:]
    for before in (0, 1, 0xFFFFFFFF, 0x12345678):
        assert crc32(data.data, before) == zlib.crc32(data, before)
    assert crc32(data.tobytes()) == zlib.crc32(data)


def test_every_bit_counts():
    data = np.zeros(1 << 15, np.uint8)
    seen = {crc32(data.data)}
    for bit in range(0, 8 * len(data), 8 * 61 + 1):
        data[bit // 8] = 1 << bit % 8
        seen.add(crc32(data.data))
        data[bit // 8] = 0
    assert len(seen) == 1 + len(range(0, 8 * len(data), 8 * 61 + 1))


def test_parts_go_on_from_each_other():
    data = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).data
    assert crc32(data[40_000:], crc32(data[:40_000])) == zlib.crc32(data)
