"""What a kernel would stumble over is refused, by the compiled check and by its twin."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunecell import native
from prunecell.errors import StateError
from prunecell.sparse.compress import compress
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.matrix import as_argument, check, what_is_wrong

WEIGHT = torch.tensor([[0.0, 1, 0, 2], [0, 0, 0, 0], [3, 0, 0, 4]])


def damaged(name, **tensors):
    parts = {key: torch.tensor(value, dtype=dtype) for key, (value, dtype) in tensors.items()}
    return dataclasses.replace(compress(WEIGHT, format=name), **parts)


HOSTILE = {
    "starts do not begin with 0": (damaged("columns16", starts=([1, 2, 2, 4], torch.int32)), "never fall"),
    "starts fall": (damaged("columns16", starts=([0, 3, 2, 4], torch.int32)), "never fall"),
    "starts are negative": (damaged("columns16", starts=([0, -1, 2, 4], torch.int32)), "never fall"),
    "starts end too early": (damaged("columns16", starts=([0, 2, 2, 3], torch.int32)), "never fall"),
    "starts lie about the count": (damaged("gaps8", starts=([0, 2, 2, 2**31 - 1], torch.int32)), "never fall"),
    "a column too many": (damaged("columns16", indices=([1, 3, 0, 4], torch.uint16)), "smaller than the number"),
    "columns do not ascend": (damaged("columns16", indices=([3, 1, 0, 3], torch.uint16)), "must ascend"),
    "a column twice": (damaged("columns16", indices=([1, 1, 0, 3], torch.uint16)), "must ascend"),
    "gaps lead outside": (damaged("gaps8", indices=([1, 2, 0, 2], torch.uint8)), "must not lead beyond"),
    "the longest gaps": (damaged("gaps8", indices=([255] * 4, torch.uint8)), "must not lead beyond"),
    "a bit too few": (damaged("bitmask", indices=([[2], [0], [9]], torch.uint8)), "as many bits"),
    "a bit in another row": (damaged("bitmask", indices=([[2], [8], [9]], torch.uint8)), "as many bits"),
    "a bit outside": (damaged("bitmask", indices=([[2 + 16], [0], [9]], torch.uint8)), "none beyond"),
    "starts of another type": (damaged("columns16", starts=([0, 2, 2, 4], torch.int64)), "starts must be a vector of"),
    "no starts": (damaged("columns16", starts=([], torch.int32)), "starts must be a vector of"),
    "values of another type": (damaged("columns16", values=([1.0] * 4, torch.float64)), "values must be a vector of"),
    "values in rows": (damaged("columns16", values=([[1.0] * 4], torch.float32)), "values must be a vector of"),
    "indices of another type": (
        damaged("columns16", indices=([1, 3, 0, 3], torch.int16)),
        "columns16 must be uint16 of",
    ),
    "indices too short": (damaged("columns16", indices=([1, 3], torch.uint16)), "must be uint16 of shape"),
    "a mask too narrow": (damaged("bitmask", indices=([[], [], []], torch.uint8)), "of bitmask must be uint8 of shape"),
    "scales without int8": (damaged("columns16", scales=([1.0] * 3, torch.float32)), "with int8 values only"),
    "int8 without scales": (damaged("columns16", values=([1] * 4, torch.int8)), "with int8 values only"),
}


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("case", HOSTILE)
def test_a_damaged_matrix_is_refused(case):
    matrix, message = HOSTILE[case]
    with pytest.raises(StateError, match=message):
        check(matrix)


def test_parts_that_are_not_contiguous_are_refused():
    matrix = compress(WEIGHT)
    with pytest.raises(StateError, match="must be contiguous"):
        check(dataclasses.replace(matrix, values=matrix.values.repeat_interleave(2)[::2]))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("name", FORMATS)
def test_a_sound_matrix_is_not(name):
    check(compress(WEIGHT, format=name))
    check(compress(WEIGHT, format=name, values="int8"))
    check(compress(torch.zeros(3, 0), format=name))
    check(compress(torch.zeros(0, 3), format=name))


@settings(max_examples=200)
@given(st.data())
def test_the_compiled_check_and_its_twin_agree(data):
    library = native.library()
    name = data.draw(st.sampled_from(list(FORMATS)))
    matrix = compress((torch.arange(60).view(5, 12) % data.draw(st.integers(1, 7)) == 0).float(), format=name)
    array = data.draw(st.sampled_from([matrix.starts, matrix.indices])).view(-1)
    if len(array):
        bits = array.view(torch.int16) if array.dtype == torch.uint16 else array
        bits[data.draw(st.integers(0, len(bits) - 1))] += data.draw(st.integers(-3, 3))
    argument = as_argument(matrix)
    assert library.pc_what_is_wrong(argument.address) == what_is_wrong(matrix)
