"""The IDX reader: every element type, raw and gzipped, and files that are cut, overlong, or lie about their size."""

import contextlib
import gzip
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunecell.data.idx import DTYPES, read_idx
from prunecell.errors import FormatError


def encode(array, code=b"\x08"):
    header = b"\0\0" + code + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(DTYPES[code]).tobytes()


def write(folder, content):
    path = folder / "file-idx3-ubyte"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("code", DTYPES)
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 28, 28)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
def test_every_element_type_raw_and_gzipped(tmp_path, code, shape, pack):
    array = np.arange(np.prod(shape)).reshape(shape)
    back = read_idx(write(tmp_path, pack(encode(array, code))))
    assert back.shape == shape
    assert torch.equal(back.double(), torch.from_numpy(array).double())


def test_what_is_read_may_be_written_to(tmp_path):
    read_idx(write(tmp_path, encode(np.ones((2, 2, 2))))).zero_()


GOOD = encode(np.arange(24).reshape(2, 3, 4))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
@pytest.mark.parametrize("length", range(len(GOOD)))
def test_a_file_cut_anywhere_is_refused(tmp_path, length, pack):
    with pytest.raises(FormatError, match="file-idx3-ubyte: "):
        read_idx(write(tmp_path, pack(GOOD[:length])))


@pytest.mark.parametrize("length", range(len(gzip.compress(GOOD))))
def test_a_gzip_stream_cut_anywhere_is_refused(tmp_path, length):
    with pytest.raises(FormatError):
        read_idx(write(tmp_path, gzip.compress(GOOD)[:length]))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + b"\0", "bytes are left over"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + GOOD, "more than the file can hold"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 0, 2**32 - 1, 2**32 - 1), "more than the file can hold"),
        (b"\0\0\x0e\x08" + struct.pack(">8I", *[2**32 - 1] * 7, 0), "more than the file can hold"),
        (b"\0\0\x08\x09" + b"\0\0\0\1" * 9 + b"\0", "not an IDX file"),
        (b"\0\0\x07\x01\0\0\0\0", "not an IDX file"),
        (b"\x89PNG\r\n", "not an IDX file: it starts with 89 50 4e 47"),
    ],
)
def test_a_file_that_lies_is_refused_before_anything_is_allocated(tmp_path, content, message, pack):
    with pytest.raises(FormatError, match=message):
        read_idx(write(tmp_path, pack(content)))


@given(st.binary(max_size=64))
def test_any_bytes_are_an_array_or_a_format_error(tmp_path_factory, content):
    path = write(tmp_path_factory.getbasetemp(), b"\0\0" + content)
    with contextlib.suppress(FormatError):
        assert read_idx(path).ndim == content[1]


SIZES = st.sampled_from([0, 1, 2, 3, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)


@given(st.sampled_from(sorted(DTYPES)), st.lists(SIZES, min_size=1, max_size=8), st.binary(max_size=20))
def test_any_sizes_are_an_array_of_these_sizes_or_a_format_error(tmp_path_factory, code, sizes, content):
    header = b"\0\0" + code + bytes([len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)
    path = write(tmp_path_factory.getbasetemp(), header + content)
    with contextlib.suppress(FormatError):
        assert list(read_idx(path).shape) == sizes
