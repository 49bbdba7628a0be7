"""Laws over all classes of cells, and all that N2D2 documents of them: parameters and members."""

import copy
import json
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import n2d2
from n2d2 import cells
from n2d2.activation import Linear, Rectifier, Tanh
from n2d2.error_handler import ImplementationError, UndefinedParameterError, WrongInputType, WrongValue
from n2d2.filler import Constant, Normal
from n2d2.mapping import Mapping
from n2d2.quantizer import PruneCell
from n2d2.solver import SGD, Adam

REFERENCE = json.loads((Path(__file__).parents[1] / "data/n2d2_reference.json").read_text())

MADE = {
    "Activation": {"activation": Tanh()},
    "BatchNorm2d": {"nb_inputs": 4},
    "Conv": {"nb_inputs": 4, "nb_outputs": 2, "kernel_dims": [3, 3]},
    "ConvDepthWise": {"nb_channel": 4, "kernel_dims": [3, 3]},
    "ConvPointWise": {"nb_inputs": 4, "nb_outputs": 2},
    "Deconv": {"nb_inputs": 4, "nb_outputs": 2, "kernel_dims": [3, 3]},
    "Dropout": {},
    "ElemWise": {},
    "Fc": {"nb_inputs": 4 * 6 * 5, "nb_outputs": 2},
    "GlobalPool2d": {},
    "Padding": {"top_pad": 1, "bot_pad": 1, "left_pad": 1, "right_pad": 1},
    "Pool": {"pool_dims": [2, 2], "mapping": np.eye(4)},
    "Pool2d": {"pool_dims": [2, 2]},
    "Reshape": {"dims": [6, 5, 4]},
    "Resize": {"outputs_width": 3, "outputs_height": 4, "resize_mode": "BilinearTF"},
    "Softmax": {},
    "Transpose": {"perm": [1, 0, 2, 3]},
}
"""Class -> the arguments that it cannot do without."""

WEIGHTED = ["Conv", "ConvDepthWise", "ConvPointWise", "Deconv", "Fc"]
WEIGHTLESS = [name for name in MADE if name not in WEIGHTED]

VALUES = {
    **dict.fromkeys(("nb_inputs", "nb_outputs", "nb_channel", "nb_input_cells", "group_size"), (4, "four")),
    **dict.fromkeys(("top_pad", "bot_pad", "left_pad", "right_pad"), (-1, 1.5)),
    **dict.fromkeys(("outputs_width", "outputs_height"), (3, 0)),
    **dict.fromkeys(("kernel_dims", "pool_dims", "stride_dims", "dilation_dims", "sub_sample_dims"), ([2, 1], "two")),
    "padding_dims": ([0, 1], [1, -1]),
    "ext_padding_dims": ([1, 1, 1, 1], None),
    **dict.fromkeys(("filler", "weights_filler", "bias_filler"), (Constant(value=2.0), "He")),
    **dict.fromkeys(("solver", "weights_solver", "bias_solver", "scale_solver"), (Adam(), "Adam")),
    **dict.fromkeys(("no_bias", "back_propagate", "normalize", "with_loss", "align_corners"), (True, "yes")),
    "activation": (Rectifier(), "Rectifier"),
    "quantizer": (PruneCell(), "Prune"),
    "mapping": (None, "all"),
    **dict.fromkeys(("dropout", "drop_connect", "epsilon", "moving_average_momentum"), (0.25, 1.5)),
    "operation": ("Max", "Maximum"),
    "mode": ("PerInput", "PerOutput"),
    **dict.fromkeys(("weights", "shifts"), ([1.0], "one")),
    "pooling": ("Average", "Mean"),
    "dims": ([6, 5, 4], 4),
    "perm": ([1, 0, 2, 3], [1, 1, 2, 3]),
    "resize_mode": ("NearestNeighbor", "Nearest"),
    "name": ("given", 3),
    "model": ("Frame", "CPU"),
    "datatype": ("float", "float32"),
    "weights_export_flip": (False, None),
    **dict.fromkeys(("weights_export_format", "outputs_remap"), (None, None)),
}
"""Parameter -> a legal value, and an illegal one if there is any."""


def make(name, /, **config):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return getattr(cells, name)(**{**MADE[name], **config})


def batch(**options):
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, 6, **options)
    return n2d2.Tensor.from_torch(x)


PARAMETERS = [(name, one) for name in MADE for one in REFERENCE[f"n2d2.cells.{name}"]["parameters"]]
REFUSED = {
    *((name, "ext_padding_dims") for name in (*WEIGHTED, "Pool", "Pool2d", "GlobalPool2d")),
    *((name, "mapping") for name in ("ConvDepthWise", "Pool2d", "GlobalPool2d")),
    *(("GlobalPool2d", one) for one in ("pool_dims", "stride_dims", "padding_dims")),
    *(("ConvDepthWise", one) for one in ("nb_inputs", "nb_outputs")),
    ("ConvPointWise", "kernel_dims"),
}


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_every_documented_parameter_works_or_is_refused_by_name(name, parameter):
    legal, illegal = VALUES[parameter]
    legal = copy.deepcopy(MADE[name].get(parameter) if legal is None else legal)
    if (name, parameter) in REFUSED:
        with pytest.raises(ImplementationError, match=f"^{parameter} of {name} is refused: "):
            make(name, **{parameter: legal})
        return
    cell = make(name, **{parameter: legal})
    if parameter != "nb_input_cells":
        key = {"nb_channel": "nb_inputs"}.get(parameter, parameter)
        expected = (
            cell.quantizer if parameter == "quantizer" else cell.options.get(parameter) if legal is None else legal
        )
        assert cell.get_parameter(key) is expected or cell.get_parameter(key) == expected
    if illegal is not None:
        with pytest.raises((WrongValue, WrongInputType), match=rf"{parameter}=|weights_filler=|{parameter[-6:]}="):
            make(name, **{parameter: illegal})
        if parameter not in ("name", "nb_input_cells", "nb_channel"):
            with pytest.raises((WrongValue, WrongInputType, UndefinedParameterError)):
                cell.set_parameter(parameter, illegal)
            assert cell.get_parameter(parameter) is expected or cell.get_parameter(parameter) == expected


@pytest.mark.parametrize("name", MADE)
def test_arguments_that_are_missing_or_too_many_are_refused_by_name(name):
    kind, needed, first = getattr(cells, name), list(MADE[name].values()), next(iter(MADE[name]), "")
    with pytest.raises(WrongInputType, match=rf"(too many|has no name): .*; it is {name}\("):
        kind(*needed, *range(9))
    if needed and name not in ("Activation", "Padding"):
        with pytest.raises(WrongInputType, match=rf"^{first}.* missing; it is {name}\({first}"):
            kind()
        with pytest.raises(WrongInputType, match=f"^{first} is given twice"):
            kind(*needed, **{first: needed[0]})
    with pytest.raises(
        UndefinedParameterError, match=f"{name} has no parameter 'back_propagat'; did you mean 'back_pro"
    ):
        kind(**MADE[name], back_propagat=False)


def is_tensor(_, result):
    return isinstance(result, n2d2.Tensor)


def is_none(_, result):
    return result is None


MEMBERS = {
    "N2D2": ((), None),
    "add_input": ((n2d2.Tensor([1, 4, 5, 6]),), None),
    "set_deepnet": ((None,), None),
    "clear_input": ((), lambda cell, _: cell.get_input_cells() == cell.dims() == []),
    "clear_input_tensors": ((), lambda cell, _: cell.get_inputs().shape() == [0]),
    "dims": ((), lambda cell, dims: dims == cell.get_outputs().dims() and dims[-1] == 3),
    "export_free_parameters": (("{folder}",), is_none),
    "import_free_parameters": (("{folder}",), is_none),
    "get_activation": ((), lambda cell, activation: activation is cell.activation),
    "set_activation": ((Rectifier(),), lambda cell, _: cell.activation == Rectifier()),
    "get_biases": ((), lambda cell, biases: [biases[i] for i in range(2)] == list(biases)[:2] and cell.has_bias()),
    "get_bias": ((1,), lambda cell, bias: bias.shape() == [1] and bias[0] == cell.bias[1]),
    "set_bias": ((1, n2d2.Tensor([1], value=5.0)), lambda cell, _: cell.get_bias(1)[0] == 5),
    "get_bias_filler": ((), lambda cell, filler: filler is cell.bias_filler),
    "get_bias_solver": ((), lambda cell, solver: solver is cell.bias_solver),
    "get_weights_filler": ((), lambda cell, filler: filler is cell.weights_filler),
    "get_weights_solver": ((), lambda cell, solver: solver is cell.weights_solver),
    "set_bias_filler": ((Constant(value=1.0),), lambda cell, _: cell.bias_filler == Constant(value=1.0)),
    "set_weights_filler": ((Constant(value=1.0),), lambda cell, _: cell.weights_filler == Constant(value=1.0)),
    "set_bias_solver": ((Adam(),), lambda cell, _: cell.bias_solver == Adam()),
    "set_weights_solver": ((Adam(),), lambda cell, _: cell.weights_solver == Adam()),
    "set_scale_solver": ((Adam(),), lambda cell, _: cell.scale_solver == Adam()),
    "set_solver": ((Adam(),), lambda cell, _: set(map(repr, cell.solvers().values())) == {repr(Adam())}),
    "set_solver_parameter": (("decay", 0.5), lambda cell, _: {one.decay for one in cell.solvers().values()} == {0.5}),
    "set_filler": (
        (Constant(value=1.0),),
        lambda cell, _: cell.weights_filler == cell.bias_filler == Constant(value=1.0),
    ),
    "refill_weights": ((), lambda cell, _: cell.weight.any()),
    "refill_bias": ((), lambda cell, _: cell.bias.any()),
    "get_weight": (
        (1, 1),
        lambda cell, weight: weight.shape() == ([1] if cell.get_type() == "Fc" else [*cell.weight.shape[2:]]),
    ),
    "set_weight": ((1, 1, "{kernel}"), lambda cell, _: cell.get_weight(1, 1)[0] == 3),
    "get_weights": ((), lambda cell, w: all(w[o][c] == cell.get_weight(o, c) for o in range(2) for c in range(4))),
    "get_scales": ((), lambda _, scales: scales.shape() == [1, 4, 1, 1] and scales[2] == 1),
    "get_means": ((), lambda cell, means: means[1] == cell.layer.running_mean[1]),
    "get_variances": ((), lambda cell, variances: variances[1] == cell.layer.running_var[1]),
    "get_deepnet": ((), None),
    "get_diffinputs": ((), lambda cell, diff: diff.shape() == cell.get_outputs().shape()),
    "get_diffoutputs": ((), lambda _, diff: diff.shape() == [3, 4, 5, 6]),
    "get_inputs": ((), lambda _, x: x.shape() == [3, 4, 5, 6]),
    "get_outputs": ((), is_tensor),
    "get_input_cells": ((), lambda _, names: names == ["before"]),
    "get_name": ((), lambda cell, name: name == cell.name == "named"),
    "get_nb_channels": ((), lambda cell, n: n == (120 if cell.get_type() == "Fc" else 4)),
    "get_nb_outputs": ((), lambda cell, n: n == cell.get_outputs().shape()[1]),
    "get_parameter": (("name",), lambda _, name: name == "named"),
    "set_parameter": (("back_propagate", False), lambda cell, _: cell.back_propagate is False),
    "get_type": ((), lambda cell, kind: kind == type(cell).__name__),
    "has_bias": ((), lambda _, has: has is True),
    "has_quantizer": ((), lambda _, has: has is False),
    "is_exportable_to": (("CPP",), lambda _, can: can is False),
    "learn": ((), lambda cell, same: same is cell and cell.training),
    "test": ((), lambda cell, same: same is cell and not cell.training),
    "update": ((), is_none),
}
"""Member -> what it is called with, and what must hold of the cell and the result; None where it is refused."""

ALL = [(name, one) for name in MADE for one in REFERENCE[f"n2d2.cells.{name}"]["members"]]


@pytest.mark.parametrize(("name", "member"), ALL)
def test_every_documented_member_works_or_is_refused_by_name(name, member, tmp_path):
    arguments, holds = MEMBERS[member]
    before, cell = cells.Activation(Linear(), name="before"), make(name, name="named")
    cell(before(batch(requires_grad=True))).values.square().sum().backward()
    cell.export_free_parameters(tmp_path, verbose=False)
    if member == "get_deepnet":
        cell.clear_input()
        assert cell.get_deepnet() is None
    elif name == "BatchNorm2d" and member == "set_filler":
        with pytest.raises(WrongValue, match="a BatchNorm2d has no filler"):
            cell.set_filler(*arguments)
    elif holds is None:
        with pytest.raises(ImplementationError, match=rf"^{name}\.{member} is refused: "):
            getattr(cell, member)(*arguments)
    else:
        kernel = n2d2.Tensor(cell.get_weight(0, 0).shape(), value=3.0) if member == "set_weight" else None
        stands_for = {"{folder}": tmp_path, "{kernel}": kernel}
        given = [stands_for[one] if isinstance(one, str) and one in stands_for else one for one in arguments]
        result = getattr(cell, member)(*given)
        assert holds(cell, result)


@pytest.mark.parametrize("name", MADE)
def test_sizes_are_not_known_before_the_first_call(name):
    cell = make(name)
    assert cell.dims() == cell.get_input_cells() == []
    empty = [cell.get_inputs(), cell.get_outputs(), cell.get_diffinputs(), cell.get_diffoutputs()]
    assert [one.shape() for one in empty] == [[0]] * 4
    if name in (*WEIGHTED, "BatchNorm2d"):
        assert (cell.get_nb_channels(), cell.get_nb_outputs()) != (0, 0)
    else:
        with pytest.raises(WrongValue, match="its sizes are known after the first"):
            cell.get_nb_channels()


@pytest.mark.parametrize("name", MADE)
def test_cells_are_copied_pickled_and_compiled_after_a_call(name):
    cell = make(name, name="named")
    cell(batch())
    cell.test()
    keys, x = list(cell.state_dict()), batch().values
    expected = cell(x)
    for one in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):  # noqa: S301 - our own bytes
        assert one.get_input_cells() == one.dims() == []
        assert list(one.state_dict()) == keys
        torch.testing.assert_close(one(x), expected)
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(cell, backend="eager", fullgraph=True)(x), expected)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize(
    "wrong", [None, 3, "x", np.zeros((1, 4, 5, 6)), [], [n2d2.Tensor([1, 4, 5, 6]), torch.zeros(1)]]
)
def test_cells_take_tensors(name, wrong):
    with pytest.raises(WrongInputType, match=r"takes n2d2\.Tensors, or torch tensors"):
        make(name)(wrong)


# ---- what was silent


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("how", ["filler", "weights_filler", "bias_filler", "set_filler", "set_weights_filler"])
def test_a_new_filler_leaves_values_alone_until_it_refills(name, how):
    cell, filler = make(name), Constant(value=7.0)
    before = [one.clone() for one in cell.parameters()]
    getattr(cell, how)(filler) if how.startswith("set_") else setattr(cell, how, filler)
    assert all(map(torch.equal, cell.parameters(), before))
    cell.refill_weights()
    cell.refill_bias()
    assert (cell.weight == 7).all() == ("weight" in how or "_" not in how or how == "set_filler")
    assert (cell.bias == 7).all() == ("weight" not in how)


@pytest.mark.parametrize("name", WEIGHTED)
def test_refilling_at_once(name):
    cell = make(name)
    cell.set_weights_filler(Constant(value=3.0), refill=True)
    assert (cell.weight == 3).all()
    assert not (cell.bias == 3).any()
    cell.set_bias_filler(Constant(value=4.0), refill=True)
    assert (cell.bias == 4).all()
    cell.set_filler(Constant(value=5.0), refill=True)
    assert torch.cat([cell.weight.flatten(), cell.bias]).eq(5).all()
    bare = make(name, no_bias=True)
    bare.refill_bias()
    assert not bare.has_bias()


@pytest.mark.parametrize("name", ["Conv", "Deconv", "Fc"])
@pytest.mark.parametrize("filler", ["Random", "IterNonStruct"])
def test_masks_fit_weights_that_were_drawn_anew(name, filler):
    cell = make(name, quantizer=PruneCell(prune_mode="Static", threshold=0.5, prune_filler=filler, delta=1e-6))
    cell.refill_weights()
    mask = cell.quantizer.get_pruned_masks().to_torch().bool()
    assert torch.equal(cell.weight != 0, mask)
    assert (~mask).float().mean().item() == pytest.approx(0.5, abs=0.02)
    if filler == "IterNonStruct":
        fresh = copy.deepcopy(cell)
        fresh.quantizer = None
        torch.manual_seed(1)
        fresh.refill_weights()
        torch.manual_seed(1)
        cell.refill_weights()
        kept = cell.weight != 0
        assert fresh.weight[~kept].abs().max() <= fresh.weight[kept].abs().min()
        assert torch.equal(cell.weight, fresh.weight * kept)


def test_a_gradual_pruning_goes_on_at_its_level_after_a_refill():
    how = {"prune_mode": "Gradual", "start": 0.25, "threshold": 0.75, "gamma": 0.25, "stepsize": 1}
    cell = make("Fc", quantizer=PruneCell(prune_filler="Random", **how))
    cell(batch()).values.sum().backward()
    cell.update()
    assert cell.quantizer.get_current_threshold() == 0.5
    cell.refill_weights()
    assert cell.quantizer.get_current_threshold() == 0.5
    assert cell.weight.eq(0).float().mean().item() == 0.5


@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_are_lists_of_tensors_per_output_and_channel(name):
    cell = make(name)
    weights = cell.get_weights()
    assert len(weights) == cell.get_nb_outputs()
    dense = weights.to_numpy().reshape(len(weights), -1, *(weights.shape()[2:] or [1]))
    for output, channels in enumerate(weights):
        assert isinstance(channels, list)
        assert len(channels) == cell.get_nb_channels()
        assert channels == weights[output - len(weights)] == weights[:][output]
        for channel, kernel in enumerate(channels):
            assert isinstance(kernel, n2d2.Tensor)
            if name == "ConvDepthWise":
                assert kernel.to_torch().any() == (channel == output)
            else:
                assert np.array_equal(kernel.to_numpy(), dense[output, channel])
    biases = cell.get_biases()
    assert [bias.shape() for bias in biases] == [[1]] * len(biases) == [[1]] * cell.get_nb_outputs()
    assert [bias[0] for bias in biases] == cell.bias.tolist()


@pytest.mark.parametrize("name", WEIGHTED)
def test_handed_out_weights_and_biases_are_copies(name):
    cell = make(name)
    before = [cell.get_weights(), cell.get_biases(), cell.get_weight(0, 0), cell.get_bias(0)]
    numbers = [one.to_numpy(copy=True) for one in before]
    cell.set_filler(Constant(value=9.0), refill=True)
    assert all(np.array_equal(one.to_numpy(), then) for one, then in zip(before, numbers, strict=True))
    before[0][0][0][0] = 4.0
    before[2][0] = 4.0
    assert cell.weight.eq(9).all()


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_weight_is_that_between_an_output_and_a_channel(name):
    cell = make(name, no_bias=True, filler=Constant(value=0.0))
    cell.set_weight(1, 1, n2d2.Tensor(cell.get_weight(1, 1).shape(), value=2.0))
    x = torch.zeros(1, 4, 5, 6) if name != "Fc" else torch.zeros(1, 120)
    x[0, 1] = 1
    y = cell(x)[0]
    assert y[1].any()
    assert not y[0].any()
    assert not cell(torch.ones_like(x) - x).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cell: cell.get_weight(4, 0), r"output_index=4 is illegal: it must be in \[0, 3\]"),
        (lambda cell: cell.get_weight(0, -1), r"channel_index=-1 is illegal: it must be in \[0, 3\]"),
        (lambda cell: cell.get_bias("one"), "output_index='one' is illegal: it must be a whole number, not a str"),
        (lambda cell: cell.set_weight(0, 0, [1.0]), "set_values got 1 values for a tensor of 9"),
        (lambda cell: cell.set_weight(0, 1, np.ones((3, 3))), "output 0 of .* does not see channel 1"),
        (lambda cell: setattr(cell, "mapping", np.eye(4)), "mapping of .* cannot change"),
        (lambda cell: cell.get_diffoutputs(1), "index=1 is illegal: .* had 1 inputs"),
        (lambda cell: cell.get_inputs("x"), "index='x' is illegal"),
        (lambda cell: setattr(cell, "nb_inputs", 3), "nb_inputs of .* cannot change"),
        (lambda cell: cell.set_parameter("nb_input", 3), "has no parameter 'nb_input'; did you mean 'nb_inputs'"),
        (lambda cell: cell.get_parameter("layer.wait"), "has no parameter 'layer.wait'"),
        (lambda cell: cell.is_exportable_to("Cpp"), "export_name='Cpp' is illegal; did you mean 'CPP'"),
        (lambda cell: cell(n2d2.Tensor([1, 3, 5, 5])), r"cannot take an input of \[1, 3, 5, 5\]: .*channels"),
    ],
)
def test_what_cannot_be_is_said_by_name(call, message):
    cell = make("ConvDepthWise")
    cell(batch())
    with pytest.raises((WrongValue, WrongInputType, UndefinedParameterError), match=message):
        call(cell)
    cell.set_weight(0, 1, np.zeros((3, 3)))


def test_n2d2_s_parameters_and_torch_s_have_one_method():
    cell = make("Conv")
    assert cell.get_parameter("layer.weight") is cell.weight
    assert cell.get_parameter("kernel_dims") == [3, 3]
    assert cell.get_parameter("filler") is cell.weights_filler
    cell.set_parameter("solver", Adam())
    assert cell.get_parameter("bias_solver") == Adam()
    assert cells.Sequence([cell]).get_parameter(f"{cell.name}.layer.weight") is cell.weight


@pytest.mark.parametrize("name", WEIGHTLESS)
def test_cells_without_weights_are_not_pruned(name):
    cell = make(name)
    with pytest.raises(WrongValue, match=f"quantizer of '{cell.name}' is illegal: a {name} has no weights to prune"):
        cell.quantizer = PruneCell()
    cell.quantizer = None
    with pytest.raises(WrongInputType, match="quantizer='Prune' is illegal: it must be a PruneCell or None"):
        cell.quantizer = "Prune"


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_prune_cell_is_on_one_cell(name):
    cell, other, quantizer = make(name), make(name), PruneCell(prune_mode="Static", threshold=0.5)
    cell.quantizer = quantizer
    kept = cell.weight != 0
    cell.quantizer = quantizer
    assert torch.equal(cell.weight != 0, kept)
    with pytest.raises(WrongValue, match=f"this PruneCell is on '{cell.name}' already"):
        other.quantizer = quantizer
    assert not other.has_quantizer()
    cell.quantizer = None
    assert not cell.has_quantizer()
    other.quantizer = quantizer
    assert other.has_quantizer()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_models_and_datatypes_have_an_effect_or_say_why_not():
    for name, arguments in MADE.items():
        with pytest.warns(UserWarning, match="model='Frame_CUDA' of .* has no effect: torch finds no GPU") as caught:
            getattr(cells, name)(**arguments, model="Frame_CUDA")
        assert caught[0].filename == __file__
        if name in (*WEIGHTED, "BatchNorm2d"):
            assert {one.dtype for one in make(name, datatype="double").parameters()} == {torch.float64}
        else:
            with pytest.raises(WrongValue, match=f"datatype='double' is illegal: a {name} has no parameters"):
                make(name, datatype="double")
    for option, value in (("weights_export_flip", True), ("outputs_remap", "1:2"), ("weights_export_format", "HWCO")):
        with pytest.warns(UserWarning, match=f"{option}={value!r} of .* has no effect: "):
            cells.Conv(1, 1, [1, 1], **{option: value})


# ---- what a cell remembers


def small():
    torch.manual_seed(0)
    first = cells.Fc(6, 4, name="first", activation=Tanh())
    return cells.Sequence([first, cells.Fc(4, 3, name="last"), cells.Softmax(with_loss=True, name="softmax")]).learn()


def test_gradients_have_n2d2_s_sign_and_are_summed_over_the_batch():
    net, labels = small(), torch.tensor([0, 2, 1, 1])
    x = n2d2.Tensor.from_torch(torch.randn(4, 6))
    made = net(x)
    F.cross_entropy(made.logits.flatten(1), labels).backward()
    error = F.one_hot(labels, 3) - made.values.detach().flatten(1)
    for cell in (net["softmax"], net["last"]):
        torch.testing.assert_close(cell.get_diffinputs().values.flatten(1), error)
    torch.testing.assert_close(net["softmax"].get_diffoutputs().values.flatten(1), error)
    back = error @ net["last"].weight.detach()
    torch.testing.assert_close(net["last"].get_diffoutputs(0).values.flatten(1), back)
    assert net["last"].get_diffoutputs() == net["first"].get_diffinputs()
    assert net["first"].get_diffoutputs().shape() == [0]
    net.test()(x)
    assert net["last"].get_diffinputs().shape() == [0]


def test_outputs_that_are_asked_for_belong_to_the_graph():
    net = small()
    made = net(n2d2.Tensor.from_torch(torch.randn(4, 6)))
    again = net["softmax"].get_outputs()
    assert (again == made, again.logits is made.logits) == (True, True)
    assert again.trace.cells == made.trace.cells == tuple(net)
    net["last"].get_outputs().values.sum().backward()
    assert net["first"].weight.grad.any()
    assert net["last"].get_inputs().trace.cells == (net["first"],)


def test_a_cell_knows_all_its_inputs():
    one, two, joined = cells.Conv(4, 1, [1, 1], name="one"), cells.Conv(4, 2, [1, 1], name="two"), cells.Pool2d([2, 2])
    x = batch()
    joined([one(x), two(x)])
    assert joined.get_input_cells() == ["one", "two"]
    assert (joined.get_nb_channels(), joined.get_nb_outputs()) == (3, 3)
    assert joined.get_inputs(1) == two.get_outputs()
    assert str(joined).endswith("(['one', 'two'])")
    assert one.get_input_cells() == []
    joined.clear_input()
    assert "one" not in str(joined)


def test_an_update_counts_the_batch_that_was_seen():
    how = {"prune_mode": "Gradual", "start": 0.0, "threshold": 0.5, "gamma": 0.25, "stepsize": 6}
    cell = make("Fc", quantizer=PruneCell(**how))
    for expected in (0, 0.25):
        cell(batch()).values.sum().backward()  # three stimuli
        cell.update()
        assert cell.quantizer.get_current_threshold() == expected


# ---- options that can change


@pytest.mark.parametrize("name", [*WEIGHTED, "BatchNorm2d"])
def test_parameters_that_are_given_one_solver_have_one_each(name):
    solver = SGD(momentum=0.5)
    given, told = make(name, solver=solver), make(name)
    told.set_solver(solver)
    for cell in (given, told):
        solvers = list(cell.solvers().values())
        assert solvers == [solver, solver]
        assert len({id(one) for one in (solver, *solvers)}) == 3


def test_batch_normalization_hands_out_its_own_memory():
    cell = make("BatchNorm2d")
    cell.get_scales()[1] = 5.0
    cell.get_biases()[2] = 6.0
    cell.get_means()[3] = 7.0
    cell.get_variances()[0] = 8.0
    layer = cell.layer
    assert (layer.weight[1], layer.bias[2], layer.running_mean[3], layer.running_var[0]) == (5, 6, 7, 8)
    cell.epsilon, cell.moving_average_momentum = 0.5, 0.25
    assert (layer.eps, layer.momentum) == (0.5, 0.25)
    cell.epsilon = 0.0
    assert layer.eps == 1e-5


@pytest.mark.parametrize("name", ["Conv", "Deconv", "Fc"])
def test_a_mapping_can_be_set_later(name):
    given = {
        "nb_inputs": 4,
        "nb_outputs": 2,
        "no_bias": True,
        "quantizer": PruneCell(prune_mode="Static", threshold=0.5, prune_filler="IterNonStruct", delta=1e-6),
    }
    cell = getattr(cells, name)(
        **{**({} if name == "Fc" else {"kernel_dims": [3, 3]}), **given}, filler=Normal(std_dev=1.0)
    )
    table = torch.tensor([[1, 0], [1, 1], [0, 1], [0, 0]])
    cell.mapping = table
    assert cell.get_parameter("mapping") is table
    for output in range(2):
        for channel in range(4):
            assert cell.get_weight(output, channel).to_torch().any() <= bool(table[channel, output])
    connected = cell.connections.sum().item()
    assert cell.weight.count_nonzero().item() == pytest.approx(connected / 2, abs=1)
    cell.weight.square().sum().backward()
    assert not cell.weight.grad[~cell.connections].any()
    fresh = getattr(cells, name)(
        **{**({} if name == "Fc" else {"kernel_dims": [3, 3]}), **given, "quantizer": None}, mapping=table
    )
    assert torch.equal(fresh.connections, cell.connections)
    with pytest.raises(WrongValue, match=r"must be nb_inputs x nb_outputs, \(4, 2\)"):
        cell.mapping = table.T
    assert cell.mapping is table


def test_a_pool_takes_another_mapping():
    cell, x = make("Pool", pool_dims=[1, 1], pooling="Average"), batch().values
    cell.mapping = [[1, 0], [1, 0], [0, 1], [0, 1]]
    torch.testing.assert_close(cell(x), x.reshape(3, 2, 2, 5, 6).mean(2))
    with pytest.warns(UserWarning, match="has no mapping"):
        cell.mapping = None
    torch.testing.assert_close(cell(x), x.mean(1, keepdim=True).expand_as(x))


def test_options_of_an_fc():
    cell = make("Fc", normalize=True, no_bias=True)
    x = batch().values
    y = cell(x)
    torch.testing.assert_close(cell.weight.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(y, F.linear(x.flatten(1), cell.weight))
    cell = cells.Fc(1, 20_000, drop_connect=0.25, no_bias=True, filler=Constant(value=1.0))
    y = cell(torch.ones(2, 1))
    assert y.mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(y[0], y[1])
    y.sum().backward()
    assert torch.equal(cell.weight.grad.flatten(), 2 * y[0])
    assert cell.test()(torch.ones(2, 1)).eq(1).all()


def test_batch_normalization_without_momentum_uses_what_it_has():
    cell, x = make("BatchNorm2d", moving_average_momentum=0.0, epsilon=0.25), batch().values
    cell.get_means().set_values(np.arange(4.0))
    cell.get_variances().set_values(np.full(4, 0.75))
    torch.testing.assert_close(cell.learn()(x), x - torch.arange(4.0).reshape(4, 1, 1))
    assert cell.layer.running_mean.tolist() == [0, 1, 2, 3]
    assert torch.equal(cell.test()(x), cell.learn()(x))


@pytest.mark.parametrize(
    ("operation", "expected", "idle"),
    [
        ("Sum", lambda x, y: 2 * x - y + 3, []),
        ("AbsSum", lambda x, y: 2 * x.abs() - y.abs(), ["shifts"]),
        ("EuclideanSum", lambda x, y: (4 * x**2 + y**2 + 5).sqrt(), []),
        ("Prod", torch.mul, ["weights", "shifts"]),
        ("Max", torch.maximum, ["weights", "shifts"]),
    ],
)
def test_weights_and_shifts_of_an_elementwise_operation(operation, expected, idle):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cell = cells.ElemWise(operation=operation, mode="PerInput", weights=[2.0, -1.0], shifts=[1.0, 2.0])
    assert [str(one.message).split()[0] for one in caught] == idle
    x, y = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    torch.testing.assert_close(cell(x, y), expected(x, y))
    zeros = torch.zeros(2, 3, requires_grad=True)
    cells.ElemWise(operation=operation)(zeros, zeros).sum().backward()
    assert zeros.grad.isfinite().all()


def test_options_of_weightless_cells_can_change():
    dropout, softmax = cells.Dropout(), cells.Softmax()
    dropout.dropout = 0.0
    assert dropout(torch.ones(9)).eq(1).all()
    softmax.with_loss = True
    x = torch.randn(2, 3)
    assert softmax(x) is x
    with pytest.raises(WrongValue, match=r"group_size=2 of .* is illegal: it must divide the 3 channels"):
        cells.Softmax(group_size=2)(x)
    with pytest.raises(ImplementationError, match="mode='PerChannel' of ElemWise is refused"):
        cells.ElemWise(mode="PerChannel")


# ---- classes


def test_classes_have_n2d2_s_relations():
    assert issubclass(cells.GlobalPool2d, cells.Pool2d)
    assert issubclass(cells.Pool2d, cells.Pool)
    for name in MADE:
        assert isinstance(make(name), cells.NeuralNetworkCell)
        assert isinstance(make(name), cells.Trainable) == (name in (*WEIGHTED, "BatchNorm2d"))


@pytest.mark.parametrize("name", ["Scaling", "Transformation"])
def test_classes_that_are_refused(name):
    for use in (lambda: getattr(cells, name)(3), lambda: getattr(cells.nn, name).get_parameter("x")):
        with pytest.raises(ImplementationError, match=rf"^n2d2\.cells\.{name}\S* is refused: "):
            use()


@pytest.mark.parametrize("align", [True, False])
def test_resizing(align):
    x = torch.arange(6.0).reshape(1, 1, 2, 3).repeat(2, 2, 1, 1)
    grown = cells.Resize(5, 4, "BilinearTF", align_corners=align)(x)
    if align:
        torch.testing.assert_close(grown, F.interpolate(x, (4, 5), mode="bilinear", align_corners=True))
    else:  # the place in the input is the place in the output times the ratio of the sizes
        for (b, c, i, j), value in np.ndenumerate(grown.numpy()):
            y, z = i * 2 / 4, j * 3 / 5
            ys, zs = [int(y), min(int(y) + 1, 1)], [int(z), min(int(z) + 1, 2)]
            top, bottom = (x[b, c, row, zs[0]] * (1 - z % 1) + x[b, c, row, zs[1]] * (z % 1) for row in ys)
            assert value == pytest.approx((top * (1 - y % 1) + bottom * (y % 1)).item(), abs=1e-5)
    near = cells.Resize(5, 4, "NearestNeighbor")
    torch.testing.assert_close(near(x), F.interpolate(x, (4, 5), mode="nearest"))
    torch.testing.assert_close(cells.Resize(3, 2, "BilinearTF", align_corners=align)(x), x)
    with pytest.raises(ImplementationError, match="resize_mode='Bilinear' is refused"):
        cells.Resize(3, 2, "Bilinear")


# ---- Mapping


@pytest.mark.parametrize(("options", "sizes"), [({"nb_groups": 3}, (6, 9)), ({"nb_channels_per_group": 2}, (6, 9))])
def test_a_mapping_of_even_groups_is_a_grouped_convolution(options, sizes):
    mapping = Mapping(**options).create_mapping(*sizes)
    assert (mapping.shape(), mapping.data_type()) == (list(sizes), "bool")
    assert torch.equal(mapping.to_torch(), cells.mapping.grouped(*sizes, 3))
    assert cells.Conv(*sizes, [1, 1], mapping=mapping).layer.groups == 3


@pytest.mark.parametrize(
    ("size", "n_channels", "n_outputs"), [(2, 24, 15), (2, 15, 24), (3, 7, 3), (1, 5, 12), (4, 4, 1)]
)
def test_a_mapping_of_uneven_groups_uses_all(size, n_channels, n_outputs):
    mapping = Mapping(nb_channels_per_group=size).create_mapping(n_channels, n_outputs).to_torch()
    assert mapping.any(0).all()
    assert mapping.any(1).all()
    blocks = [row.nonzero().flatten().tolist() for row in mapping]
    assert all(block == list(range(block[0], block[-1] + 1)) for block in blocks)
    assert [blocks[i] == blocks[i + 1] for i in range(n_channels - 1)] == [
        (i + 1) % size != 0 for i in range(n_channels - 1)
    ]
    if (size, n_channels, n_outputs) == (2, 24, 15):  # the sizes of N2D2's documentation
        assert mapping[::2].sum(1).tolist() == [1, 1, 1, 2] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Mapping, "takes nb_groups or nb_channels_per_group, not none"),
        (lambda: Mapping(2, 2), "takes nb_groups or nb_channels_per_group, not both"),
        (lambda: Mapping(nb_groups=0), "nb_groups=0 is illegal: it must be a whole number >= 1"),
        (lambda: Mapping(nb_groups="2"), "nb_groups='2' is illegal"),
        (lambda: Mapping(groups=2), "Mapping has no parameter 'groups'; did you mean 'nb_groups'"),
        (lambda: Mapping(nb_groups=2).create_mapping(5, 4), "nb_groups=2 is illegal: it must divide the 5 channels"),
        (lambda: Mapping(nb_groups=4).create_mapping(4, 3), "nb_outputs=3 is illegal: each of the 4 groups needs one"),
    ],
)
def test_mappings_that_cannot_be(call, message):
    with pytest.raises((WrongValue, WrongInputType, UndefinedParameterError), match=message):
        call()


def test_a_refusal_speaks_of_the_class_that_was_asked():
    for name in ("Conv", "Softmax"):
        with pytest.raises(ImplementationError, match=rf"^{re.escape(name)}\.add_input is refused"):
            make(name).add_input(3)
    assert SGD().get_type() == "SGD"
