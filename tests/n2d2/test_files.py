"""`.syntxt` files: the layout, round trips to the bit, and what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from n2d2 import files
from n2d2.cells import BatchNorm2d, Conv, Deconv, Dropout, Fc
from n2d2.quantizer import PruneCell
from prunecell.errors import FormatError


def test_the_layout(tmp_path):
    """These are the bytes that N2D2 writes, but for its last digits."""
    weight = torch.tensor([0.5, -1.25, 0, 1e-7, 3, 16777216]).view(2, 1, 1, 3)
    files.write_weights(tmp_path / "w", weight)
    files.write_biases(tmp_path / "b", torch.tensor([1.0, -2.5]))
    files.write_masks(tmp_path / "m", weight.abs() > 0.1)
    assert (tmp_path / "w").read_text() == "0.5 -1.25 0 \n1.00000001e-07 3 16777216 \n"
    assert (tmp_path / "b").read_text() == "1 \n-2.5 \n"
    assert (tmp_path / "m").read_text() == "1 1 0 \n0 1 1 \n"


def test_unconnected_kernels_are_left_out(tmp_path):
    weight = torch.arange(1.0, 9).view(2, 2, 1, 2)
    there = torch.tensor([[True, False], [True, True]])[:, :, None, None].expand(2, 2, 1, 2)
    files.write_weights(tmp_path / "w", weight, there)
    assert (tmp_path / "w").read_text() == "1 2 \n5 6 7 8 \n"
    assert torch.equal(files.read_weights(tmp_path / "w", (2, 2, 1, 2), there), weight * there)


def test_masks_of_several_inputs_follow_one_another(tmp_path):
    mask = torch.tensor([[1, 0, 0], [1, 1, 0]], dtype=torch.bool)
    files.write_masks(tmp_path / "m", mask, [1, 2])
    assert (tmp_path / "m").read_text() == "1 \n1 \n0 0 \n1 0 \n"
    assert torch.equal(files.read_masks(tmp_path / "m", (2, 3), [1, 2]), mask)


def test_an_fc_on_feature_maps_has_a_columns_for_each_of_their_values(tmp_path):
    mask = torch.rand(5, 3 * 4) < 0.5  # channels 1 + 2, maps of 2 x 2
    files.write_masks(tmp_path / "m", mask, [1, 2])
    assert torch.equal(files.read_masks(tmp_path / "m", (5, 12), [1, 2]), mask)
    with pytest.raises(FormatError, match=r"inputs=\[3, 2\] is illegal"):
        files.write_masks(tmp_path / "m", mask, [3, 2])


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_float32_reads_back_to_the_bit(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "w"
    weight = torch.tensor([values])
    files.write_weights(path, weight)
    assert torch.equal(files.read_weights(path, weight.shape).view(torch.int32), weight.view(torch.int32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_read_back_to_the_bit(tmp_path, dtype):
    weight = torch.randn(3, 4).to(dtype)
    files.write_weights(tmp_path / "w", weight)
    assert torch.equal(files.read_weights(tmp_path / "w", weight.shape, dtype=dtype), weight)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 \n3 4 5 \n", r"w:2: 3 values where there must be 2, in 3 lines"),
        ("1 2 \n3 4 \n", r"w:3: 0 values where there must be 2"),
        ("1 2 \n3 4 \n5 6 \n7 8 \n", r"w:4: \d+ values where there must be 0, in 3 lines"),
        ("1 2 \n3 x \n5 6 \n", r"w:2: 'x' is illegal: it must be a finite number"),
        ("1 2 \n3 nan \n5 6 \n", r"w:2: 'nan' is illegal: it must be a finite number"),
        ("1 1e999 \n3 4 \n5 6 \n", r"w:1: '1e999' is illegal"),
        ("1 1e39 \n3 4 \n5 6 \n", r"w:1: '1e39' is illegal: it must be a finite number of torch\.float32"),
        ("1 2 \n3 \xe9 \n5 6 \n", r"w:2: .* is illegal"),
        ("", r"w:1: 0 values where there must be 2"),
        ("1 " * 10**6, r"w:1: 60 values where there must be 2"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_and_line(tmp_path, text, message):
    (tmp_path / "w").write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=message):
        files.read_weights(tmp_path / "w", (3, 2))


def test_masks_are_zeros_and_ones(tmp_path):
    (tmp_path / "m").write_text("1 0 \n1 2 \n")
    with pytest.raises(FormatError, match=r"m:2: '2' is illegal: it must be 0 or 1"):
        files.read_masks(tmp_path / "m", (2, 2))


def test_empty_lines_are_passed_over(tmp_path):
    (tmp_path / "b").write_text("\n1\n\n\n2\n\n")
    assert files.read_biases(tmp_path / "b", 2).tolist() == [1, 2]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"none\.syntxt: there is no such file"):
        files.read_biases(tmp_path / "none.syntxt", 2)


def prune_cell(filler="Random", mode="Static"):
    return PruneCell(prune_mode=mode, prune_filler=filler, threshold=0.5, start=0.5)


def network(**quantizer):
    mapping = torch.tensor([[1, 0, 1], [1, 1, 0]])
    return [
        Conv(2, 3, [3, 3], name="conv", mapping=mapping, quantizer=quantizer.get("conv")),
        Conv(4, 8, [3, 3], name="block/grouped", mapping=torch.eye(2).repeat_interleave(2, 0).repeat_interleave(4, 1)),
        Deconv(2, 3, [2, 2], name="deconv", no_bias=True),
        BatchNorm2d(3, name="bn"),
        Dropout(name="drop"),
        Fc(12, 5, name="fc", quantizer=quantizer.get("fc")),
    ]


def state(cells):
    return {f"{cell.name}.{key}": value for cell in cells for key, value in cell.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_network_is_saved_and_loaded_to_the_bit(tmp_path):
    written, read = network(), network()
    nn.init.normal_(written[3].layer.running_mean)
    assert not equal(state(written), state(read))
    files.save_weights(written, tmp_path / "weights")
    names = sorted(str(path.relative_to(tmp_path / "weights")) for path in (tmp_path / "weights").rglob("*.syntxt"))
    assert names == [
        "block/grouped_biases.syntxt",
        "block/grouped_weights.syntxt",
        *(f"bn_{kind}.syntxt" for kind in ("biases", "means", "scales", "variances")),
        "conv_biases.syntxt",
        "conv_weights.syntxt",
        "deconv_weights.syntxt",
        "fc_biases.syntxt",
        "fc_weights.syntxt",
    ]
    files.load_weights(read, tmp_path / "weights")
    assert equal(state(written), state(read))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_deconv_has_one_line_per_output(tmp_path, groups):
    mapping = None if groups == 1 else torch.eye(2).repeat_interleave(2, 0).repeat_interleave(3, 1)
    cells = [Deconv(4, 6, [2, 2], name="deconv", mapping=mapping) for _ in range(2)]
    files.save_weights(cells[:1], tmp_path)
    lines = (tmp_path / "deconv_weights.syntxt").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [4 // groups * 4] * 6
    fourth = cells[0].weight[2 if groups == 2 else 0 :, 0 if groups == 2 else 3].flatten()
    assert torch.equal(torch.tensor([float(word) for word in lines[3].split()]), fourth)
    files.load_weights(cells[1:], tmp_path)
    assert torch.equal(cells[0].weight, cells[1].weight)


@pytest.mark.parametrize(
    ("mode", "after_an_update"), [("Identity", 0.618), ("Static", 0.618), ("Gradual", 0.618 + 0.05)]
)
def test_masks_that_are_read_set_the_threshold_and_hold(tmp_path, mode, after_an_update):
    written = Fc(500, 2, name="fc", no_bias=True)
    (tmp_path / "fc_masks.syntxt").write_text(("0 " * 309 + "1 " * 191 + "\n") * 2)
    files.write_weights(tmp_path / "fc_weights.syntxt", written.weight)
    read = Fc(500, 2, name="fc", no_bias=True)
    read.quantizer = PruneCell(prune_mode=mode, prune_filler="IterNonStruct", threshold=0.9, gamma=0.05, stepsize=2)
    read.import_free_parameters(tmp_path)
    mask = torch.arange(500).expand(2, 500) >= 309
    assert read.quantizer.get_current_threshold() == pytest.approx(0.618)
    assert torch.equal(read.weight, written.weight * mask)
    read(torch.ones(1, 500)).square().sum().backward()
    read.update(1)
    assert torch.equal(read.weight != 0, mask)
    assert read.quantizer.get_current_threshold() == pytest.approx(0.618)
    read.update(1)
    assert read.quantizer.get_current_threshold() == pytest.approx(after_an_update)
    assert after_an_update - 1e-6 <= (read.weight == 0).float().mean().item() < after_an_update + 0.02


@pytest.mark.parametrize("filler", ["Random", "IterNonStruct"])
@pytest.mark.parametrize("mode", ["Static", "Gradual"])
def test_masks_are_loaded_as_they_were_saved(tmp_path, filler, mode):
    written = network(conv=prune_cell(filler, mode), fc=prune_cell(filler, mode))
    read = network(conv=prune_cell(filler, mode), fc=prune_cell(filler, mode))
    files.save_weights(written, tmp_path)
    files.load_weights(read, tmp_path)
    for one, other in zip(written, read, strict=True):
        if one.quantizer is not None:
            masks = [cell.quantizer.get_pruned_masks().to_torch() for cell in (one, other)]
            assert torch.equal(*masks)
            assert torch.equal(one.weight, other.weight)
            assert (other.weight[masks[1] == 0] == 0).all()


def test_masks_prune_a_network_without_prune_cells_too(tmp_path):
    fc = Fc(4, 2, name="fc", no_bias=True)
    (tmp_path / "fc_weights.syntxt").write_text("1 2 3 4 \n5 6 7 8 \n")  # as N2D2 writes them: not masked
    (tmp_path / "fc_masks.syntxt").write_text("0 1 0 1 \n1 0 1 0 \n")
    files.load_weights([fc], tmp_path)
    assert fc.weight.tolist() == [[0, 2, 0, 4], [5, 0, 7, 0]]


def test_a_masks_file_that_is_missing_is_an_error_or_by_choice_the_masks_are_filled_on_the_new_weights(tmp_path):
    fc = Fc(4, 1, name="fc", no_bias=True, quantizer=prune_cell("IterNonStruct"))
    (tmp_path / "fc_weights.syntxt").write_text("1 4 2 3 \n")
    before = fc.weight.clone()
    with pytest.raises(FormatError, match=r"fc_masks\.syntxt: there is no such file.*ignore_not_exists=True"):
        fc.import_free_parameters(tmp_path)
    assert torch.equal(fc.weight, before)
    fc.import_free_parameters(tmp_path, ignore_not_exists=True)
    assert fc.weight.tolist() == [[0, 4, 0, 3]]


def test_missing_files_are_errors_or_by_choice_warnings(tmp_path):
    cells = [Fc(4, 2, name="fc"), Fc(2, 2, name="other", no_bias=True)]
    files.save_weights(cells[1:], tmp_path)
    with pytest.raises(FormatError, match=r"fc_\w+\.syntxt: there is no such file"):
        files.load_weights(cells, tmp_path)
    before = cells[0].weight.clone()
    with pytest.warns(UserWarning, match=r"fc_weights\.syntxt is not there: cell 'fc' keeps its weights"):
        files.load_weights(cells, tmp_path, ignore_missing=True)
    assert torch.equal(cells[0].weight, before)


def test_a_cell_is_not_changed_by_half(tmp_path):
    fc = Fc(2, 2, name="fc")
    before = fc.weight.clone()
    (tmp_path / "fc_weights.syntxt").write_text("1 2 \n3 4 \n")
    (tmp_path / "fc_biases.syntxt").write_text("1 \nx \n")
    with pytest.raises(FormatError, match=r"fc_biases\.syntxt:2: 'x' is illegal"):
        files.load_weights([fc], tmp_path, ignore_missing=True)
    assert torch.equal(fc.weight, before)


def test_a_cells_name_cannot_lead_out_of_the_folder(tmp_path):
    with pytest.raises(FormatError, match="leads out of"):
        files.save_weights([Fc(2, 2, name="../../fc")], tmp_path / "weights")
    assert not list(tmp_path.rglob("*.syntxt"))


def test_no_cell_is_changed_where_another_one_cannot_be_read(tmp_path):
    cells = [Fc(2, 2, name="first"), Fc(2, 2, name="second")]
    files.save_weights(cells, tmp_path)
    (tmp_path / "second_biases.syntxt").write_text("1 \nx \n")
    for cell in cells:
        nn.init.ones_(cell.layer.weight)
    with pytest.raises(FormatError, match=r"second_biases\.syntxt:2: 'x' is illegal"):
        files.load_weights(cells, tmp_path)
    assert all(bool((cell.layer.weight == 1).all()) for cell in cells)


def test_a_file_that_is_replaced_is_never_half_there(tmp_path, monkeypatch):
    files.write_biases(tmp_path / "b", torch.ones(3))

    def broken(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.Tensor, "is_floating_point", broken)
    with pytest.raises(KeyboardInterrupt):
        files.write_biases(tmp_path / "b", torch.zeros(3))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["1 \n1 \n1 \n"]


def test_a_folder_that_is_none_is_told(tmp_path):
    (tmp_path / "file").touch()
    cell = Fc(2, 3, name="fc")
    with pytest.raises(FormatError, match=r"^there is no folder .*nowhere$"):
        cell.import_free_parameters(tmp_path / "nowhere")
    with pytest.raises(FormatError, match=r"file: it is no folder$"):
        cell.import_free_parameters(tmp_path / "file")
