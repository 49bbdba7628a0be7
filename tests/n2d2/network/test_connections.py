"""The Mapping keys: every way to say which channels an output sees."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from n2d2 import ini
from n2d2.cells.mapping import grouped
from n2d2.network.connections import is_mapped, read_mapping


def section_of(*lines):
    return ini.parse("\n".join(["[pool]", *lines]), file="net.ini").section("pool")


def mapping(n_channels, n_outputs, *lines, name="a"):
    return read_mapping(section_of(*lines), [(name, n_channels)], n_outputs).int().tolist()


def test_without_keys_every_output_sees_every_channel():
    assert mapping(2, 3) == [[1, 1, 1], [1, 1, 1]]
    assert not is_mapped(section_of("Stride=2"))


def test_the_table_has_a_row_for_each_channel():
    assert mapping(2, 3, "Mapping(a)=1 0 1 0 1 1") == [[1, 0, 1], [0, 1, 1]]
    assert is_mapped(section_of("Mapping(a)=1"))


def test_a_table_over_several_lines_is_one():
    assert mapping(2, 2, "Mapping(a)=\\", "1 0 \\", "0 1") == [[1, 0], [0, 1]]


@pytest.mark.parametrize("table", ["1 0 1", "1 0 1 0 1 1 1", "1 0 1 0 1 2"])
def test_a_table_that_does_not_fit_is_refused_with_its_line(table):
    legal = "it must be 2 rows of 3 numbers, a row for each channel, all of them 0 or 1"
    with pytest.raises(ini.IniError, match=rf"net.ini:2: \[pool\] Mapping\(a\)='{table}' is illegal: {legal}"):
        mapping(2, 3, f"Mapping(a)={table}")


def test_one_to_one_in_three_spellings():
    wanted = torch.eye(4, dtype=torch.int64).tolist()
    assert mapping(4, 4, "Mapping.Size=1") == wanted
    assert mapping(4, 4, "Mapping.ChannelsPerGroup=1") == wanted
    assert mapping(4, 4, "Mapping.NbGroups=4") == wanted


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))
def test_groups_are_those_of_a_grouped_convolution(n_groups, n_inputs_each, n_outputs_each):
    sizes = n_groups * n_inputs_each, n_groups * n_outputs_each
    wanted = grouped(*sizes, n_groups).int().tolist()
    assert mapping(*sizes, f"Mapping.NbGroups={n_groups}") == wanted
    assert mapping(*sizes, f"Mapping.ChannelsPerGroup={n_inputs_each}") == wanted


def test_outputs_that_the_groups_do_not_divide_go_to_the_last_groups():
    assert mapping(2, 3, "Mapping.NbGroups=2") == [[1, 0, 0], [0, 1, 1]]


@pytest.mark.parametrize(("key", "value"), [("NbGroups", 3), ("ChannelsPerGroup", 3), ("NbGroups", 8)])
def test_groups_that_do_not_divide_the_channels_are_refused(key, value):
    with pytest.raises(
        ini.IniError, match=rf"net.ini:2: \[pool\] Mapping.{key}='{value}' is illegal: .*the 4 channels"
    ):
        mapping(4, 4, f"Mapping.{key}={value}")


def test_both_ways_to_say_groups_are_one_too_many():
    with pytest.raises(ini.IniError, match=r"net.ini:3: \[pool\] Mapping.ChannelsPerGroup is refused"):
        mapping(4, 4, "Mapping.NbGroups=2", "Mapping.ChannelsPerGroup=2")


def test_a_rectangle_moves_by_its_stride():
    maxout = mapping(8, 4, "Mapping.SizeY=2", "Mapping.StrideY=2")  # each output sees a pair of channels
    assert maxout == torch.eye(4, dtype=torch.int64).repeat_interleave(2, 0).tolist()
    assert mapping(3, 3, "Mapping.Size=1", "Mapping.OffsetX=1", "Mapping.NbIterations=2") == [
        [0, 1, 0],
        [0, 0, 1],
        [0, 0, 0],
    ]


def test_size_0_is_all():
    assert mapping(2, 3, "Mapping.Size=0") == [[1, 1, 1], [1, 1, 1]]
    assert mapping(2, 2, "Mapping.SizeX=1", "Mapping.SizeY=0", "Mapping.NbIterations=1") == [[1, 0], [1, 0]]


def test_a_key_of_one_input_goes_before_that_of_all():
    lines = ("Mapping.Size=1", "Mapping(b).Size=2")
    table = read_mapping(section_of(*lines), [("a", 2), ("b", 2)], 2).int().tolist()
    assert table == [[1, 0], [0, 1], [1, 1], [1, 1]]


def test_endless_iterations_come_round():
    assert mapping(3, 2, "Mapping.Size=1", "Mapping.NbIterations=999999999999") == [[1, 1]] * 3


@pytest.mark.parametrize("name", ["sp", "env"])
def test_the_provider_has_two_names(name):
    assert mapping(2, 1, "Mapping(env)=0 1", name=name) == [[0], [1]]
