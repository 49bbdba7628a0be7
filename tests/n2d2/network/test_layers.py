"""A section to a cell, for every Type."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from n2d2 import activation, cells, filler, ini, solver
from n2d2.error_handler import WrongValue
from n2d2.network.layers import KINDS, read_cell
from n2d2.network.parts import Inputs, read_quantizer
from n2d2.network.refused import ELSEWHERE, REFUSED_CELLS, REFUSED_MODELS
from n2d2.quantizer import PruneCell

INPUTS = Inputs(("a",), ((4, 8, 8),))


def section_of(*lines):
    return ini.parse("\n".join(["[x]", *lines]), file="net.ini").section("x")


def cell_of(kind, *lines, inputs=INPUTS):
    return read_cell(section_of(f"Type={kind}", *lines), inputs)


@pytest.mark.parametrize(
    "lines",
    [
        ("KernelDims=3 5", "StrideDims=1 2", "PaddingDims=0 3", "DilationDims=1 2", "SubSampleDims=2 1"),
        (
            *("KernelWidth=3", "KernelHeight=5", "StrideY=2", "PaddingY=3", "DilationX=1", "DilationY=2"),
            *("SubSampleX=2", "SubSampleY=1"),
        ),
    ],
)
def test_conv_in_both_spellings_of_sizes(lines):
    conv = cell_of("Conv", "NbOutputs=6", *lines)
    assert isinstance(conv, cells.Conv)
    assert conv.layer.weight.shape == (6, 4, 5, 3)
    assert conv.layer.stride == (2, 2)
    assert (conv.layer.padding, conv.layer.dilation) == ((3, 0), (2, 1))


def test_one_number_stands_for_all_sizes():
    conv = cell_of("Conv", "NbOutputs=6", "KernelSize=3", "Stride=2", "Padding=1", "Dilation=2")
    assert (conv.layer.kernel_size, conv.layer.stride, conv.layer.padding) == ((3, 3), (2, 2), (1, 1))
    assert conv.layer.dilation == (2, 2)


@pytest.mark.parametrize("n_dims", [1, 3])
def test_conv_of_other_dimensions(n_dims):
    inputs = Inputs(("a",), ((4, *(8,) * n_dims),))
    conv = cell_of("Conv", "NbOutputs=6", f"KernelDims={'3 ' * n_dims}", "Stride=2", inputs=inputs)
    assert conv.layer.weight.shape == (6, 4, *(3,) * n_dims)


@given(
    kind=st.sampled_from(["Conv", "Pool"]),
    side=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    size=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
)
@settings(max_examples=200)
def test_sizes_that_are_read_fit_the_input_and_others_are_refused_by_their_key(kind, side, size, padding, dilation):
    of, inputs = {"Conv": "Kernel", "Pool": "Pool"}[kind], Inputs(("a",), ((4, *side),))
    dilated = [f"Dilation={dilation}"] if kind == "Conv" else ["Mapping.ChannelsPerGroup=1"]
    dims = f"{of}Dims={' '.join(map(str, size))}"
    try:
        cell = cell_of(kind, "NbOutputs=4", dims, f"Padding={padding}", *dilated, inputs=inputs)
    except ini.IniError as error:
        assert str(error).startswith(("net.ini:4: [x] " + of, "net.ini:5: [x] Padding="))  # noqa: PT017 - it may raise
        if len(side) == len(size):
            by_torch = {
                "Conv": partial(cells.Conv, 4, 4, dilation_dims=dilation),
                "Pool": partial(cells.Pool, mapping=torch.eye(4)),
            }[kind]
            with pytest.raises(WrongValue, match="cannot take an input"):
                by_torch([*size], padding_dims=padding)(torch.zeros(1, 4, *side))
    else:
        assert cell(torch.zeros(1, 4, *side)).shape[:2] == (1, 4)


@pytest.mark.parametrize(
    ("kind", "lines", "message"),
    [
        (
            "Conv",
            ["KernelDims=5"],
            r"4: \[x\] KernelDims='5' is illegal: it must be 2 whole .* the input is 4 x 8 x 8$",
        ),
        (
            "Deconv",
            ["KernelDims=2 2 2"],
            r"4: \[x\] KernelDims='2 2 2' is illegal: it must be 2 whole numbers >= 1, x f",
        ),
        ("Conv", ["KernelSize=9"], r"4: \[x\] KernelSize='9' is illegal: it spans 9 x 9, and the .* is 8 x 8$"),
        ("Conv", ["KernelWidth=3", "KernelHeight=9"], r"4: \[x\] KernelWidth='3' is illegal: it spans 3 x 9, and"),
        ("Conv", ["KernelSize=5", "Dilation=2", "PaddingX=1"], r"4: .* it spans 9 x 9, and the .* padding is 10 x 8$"),
        ("Conv", ["KernelSize=5", "Stride=0"], r"5: \[x\] Stride='0' is illegal: it must be a whole number >= 1$"),
        ("Pool", ["PoolDims=20 20"], r"4: \[x\] PoolDims='20 20' is illegal: it spans 20 x 20, and"),
        (
            "Pool",
            ["PoolDims=2 2", "Padding=2"],
            r"5: \[x\] Padding='2' is illegal: it must be half of the window at most$",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_told_by_their_key(kind, lines, message):
    with pytest.raises(ini.IniError, match=rf"^net.ini:{message}"):
        cell_of(kind, "NbOutputs=4", *lines)


def test_groups_become_torch_s_and_a_table_becomes_connections():
    depthwise = cell_of("Conv", "NbOutputs=4", "KernelDims=3 3", "Mapping.ChannelsPerGroup=1")
    assert depthwise.layer.groups == 4
    assert depthwise.connections is None
    irregular = cell_of("Conv", "NbOutputs=2", "KernelDims=1 1", "Mapping(a)=1 0 1 1 0 1 0 0")
    assert irregular.connections[:, :, 0, 0].int().tolist() == [[1, 1, 0, 0], [0, 1, 1, 0]]
    assert not irregular.weight[~irregular.connections].any()


def test_defaults_are_n2d2_s():
    fc = cell_of("Fc", "NbOutputs=3")
    assert fc.layer.weight.shape == (3, 4 * 8 * 8)
    assert fc.activation == activation.Linear()
    assert fc.weights_filler == fc.bias_filler == filler.Normal(std_dev=0.05)
    assert fc.weights_solver == fc.bias_solver == solver.SGD(learning_rate=0.01)


def test_fillers_and_solvers_apart_for_weights_and_biases():
    fc = cell_of(
        *("Fc", "NbOutputs=3", "WeightsFiller=XavierFiller", "WeightsFiller.VarianceNorm=Average"),
        *("BiasFiller=ConstantFiller", "BiasFiller.Value=0.5", "Solvers.Momentum=0.9", "BiasSolver.Momentum=0"),
        *("WeightsSolver=AdamSolver", "WeightsSolver.Beta1=0.8", "BiasSolver.Clamping=1"),
    )
    assert fc.weights_filler == filler.Xavier(variance_norm="Average")
    assert fc.layer.bias.tolist() == [0.5] * 3
    assert fc.weights_solver == solver.Adam(beta1=0.8)
    assert fc.bias_solver == solver.SGD(momentum=0, clamping=True)


def test_solvers_names_the_type_of_both():
    for name in ("AdamSolver", "Adam"):
        fc = cell_of("Fc", "NbOutputs=3", f"Solvers={name}", "Solvers.LearningRate=0.5")
        assert fc.weights_solver == fc.bias_solver == solver.Adam(learning_rate=0.5)


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["Linear"], activation.Linear()),
        (["Rectifier", "ActivationFunction.LeakSlope=0.1"], activation.Rectifier(leak_slope=0.1)),
        (["Rectifier", "ActivationFunction.Clipping=6"], activation.Rectifier(clipping=6)),
        (["Tanh", "ActivationFunction.Alpha=2"], activation.Tanh(alpha=2)),
        (["TanhLeCun"], activation.Tanh(alpha=1.7159 * 2 / 3)),
        (["Saturation", "ActivationFunction.Threshold=3"], activation.Saturation(threshold=3)),
        (["Logistic"], activation.Logistic()),
        (["Softplus"], activation.Softplus()),
        (["Swish"], activation.Swish()),
    ],
)
def test_activations(lines, wanted):
    assert cell_of("Activation", f"ActivationFunction={lines[0]}", *lines[1:]).activation == wanted


def test_pool_of_each_channel_and_over_pairs_of_them():
    x = torch.arange(4 * 64.0).reshape(1, 4, 8, 8)
    lines = ("PoolDims=2 2", "Stride=2", "Pooling=Average")
    own = cell_of("Pool", "NbOutputs=4", "Mapping.ChannelsPerGroup=1", *lines)
    assert torch.equal(own(x), torch.nn.functional.avg_pool2d(x, 2))
    pairs = cell_of("Pool", "NbOutputs=2", "Mapping.NbGroups=2", *lines)
    assert torch.equal(pairs(x), torch.nn.functional.avg_pool2d(x, 2).reshape(1, 2, 2, 4, 4).mean(2))


def test_pool_without_a_mapping_is_told_what_it_does():
    with pytest.warns(ini.IniWarning, match=r"net.ini:1: \[x\] has no Mapping: .*ChannelsPerGroup=1 pools each"):
        cell = cell_of("Pool", "NbOutputs=2", "PoolSize=2")
    assert cell(torch.zeros(1, 4, 8, 8)).shape == (1, 2, 7, 7)


def test_the_other_cells():
    norm = cell_of("BatchNorm", "Epsilon=0.01", "MovingAverageMomentum=0.3", "ScaleSolver.Momentum=0.5")
    assert (norm.layer.eps, norm.layer.momentum, norm.layer.num_features) == (0.01, 0.3, 4)
    assert (norm.scale_solver.momentum, norm.bias_solver.momentum) == (0.5, 0)
    assert cell_of("Deconv", "NbOutputs=2", "KernelDims=2 2", "Stride=2")(torch.zeros(1, 4, 3, 3)).shape[2:] == (6, 6)
    assert cell_of("Dropout", "Dropout=0.3").dropout == 0.3
    assert cell_of("Softmax", "WithLoss=1", "GroupSize=2").options["group_size"] == 2
    assert cell_of("Padding", "TopPadding=1", "LeftPadding=-2")(torch.zeros(1, 4, 8, 8)).shape[2:] == (9, 6)
    assert cell_of("Reshape", "Dims=4 2 -1")(torch.zeros(1, 4, 8, 8)).shape[1:] == (32, 2, 4)
    assert cell_of("Transpose", "Perm=1 0 2 3")(torch.zeros(1, 4, 8, 7)).shape[1:] == (4, 7, 8)
    add = cell_of(
        "ElemWise",
        "Operation=Sum",
        "Weights=0.5 1",
        "Shifts=1 0",
        "CoeffMode=PerInput",
        inputs=Inputs(("a", "b"), ((2,), (2,))),
    )
    assert add(torch.ones(1, 2), torch.ones(1, 2)).tolist() == [[2.5, 2.5]]


def test_a_prune_cell_is_read_and_not_put_on():
    lines = ("Type=Fc", "NbOutputs=3", "QWeight=Prune", "QWeight.PruningMode=Static", "QWeight.Threshold=0.4")
    assert read_quantizer(section_of(*lines)) == PruneCell(prune_mode="Static", threshold=0.4)
    assert read_quantizer(section_of("Type=Fc")) is None
    assert read_cell(section_of(*lines), INPUTS).quantizer is None


def test_a_key_of_spikes_that_is_one_of_pruning_by_another_name_is_refused_in_a_pruned_cell():
    words = ("Type=Fc", "NbOutputs=3", "Threshold=0.8")
    with pytest.raises(ini.IniError, match=r"^net.ini:4: \[x\] Threshold is refused: .* pruned by QWeight.Threshold$"):
        read_quantizer(section_of(*words, "QWeight=Prune"))
    with pytest.warns(ini.IniWarning, match="Threshold has no effect here"):
        cell_of("Fc", *words[1:])


@pytest.mark.parametrize(
    ("lines", "warned"),
    [
        (
            ["QWeight.StartThreshold=0.95", "QWeight.Threshold=0.3"],
            r"^net.ini:5: .*0.95 is above QWeight.Threshold=0.3: ",
        ),
        (["QWeight.Threshold=0.05"], r"^net.ini:5: \[x\] QWeight.StartThreshold=0.1 is above QWeight.Threshold=0.05: "),
        (["QWeight.StartThreshold=0.3", "QWeight.Threshold=0.3"], None),
    ],
)
def test_a_start_above_the_threshold_is_told(lines, warned):
    words = ("Type=Fc", "QWeight=Prune", "QWeight.PruningMode=Gradual", *lines)
    with pytest.warns(ini.IniWarning, match=warned) if warned else nullcontext():
        quantizer = read_quantizer(section_of(*words))
    fc = cells.Fc(50, 20, quantizer=quantizer)
    assert fc.quantizer.pruner.sparsity == pytest.approx(quantizer.start, abs=1e-3)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Type=Cnov"], r"^net.ini:2: \[x\] Type='Cnov' is illegal; did you mean 'Conv'\?"),
        (["NbOutputs=3"], r"^net.ini:1: \[x\] Type is missing"),
        (["Type=Fc"], r"^net.ini:1: \[x\] NbOutputs is missing"),
        (["Type=Conv", "NbOutputs=3"], r"^net.ini:1: \[x\] KernelDims is missing"),
        (["Type=Conv", "NbOutputs=3", "KernelWidth=3"], r"^net.ini:1: \[x\] KernelHeight is missing"),
        (["Type=Conv", "NbOutputs=3", "KernelDims=3 x"], r"^net.ini:4: \[x\] KernelDims='3 x' is illegal"),
        (
            ["Type=Conv", "NbOutputs=3", "KernelDims=3 3", "StrideDims=2"],
            r"^net.ini:5: \[x\] StrideDims='2' is .* be 2 whole",
        ),
        (
            ["Type=Fc", "NbOutputs=3", "WeightsFiller=Hefiller"],
            r"^net.ini:4: \[x\] WeightsFiller='Hef.*' is .*mean 'HeFiller'\?",
        ),
        (["Type=Fc", "NbOutputs=3", "Solvers.Momentum=2"], r"^net.ini:4: \[x\] Solvers.Momentum=2.0 is illegal"),
        (["Type=Fc", "NbOutputs=3", "WeightsSharing=fc1"], r"^net.ini:4: \[x\] WeightsSharing is refused: "),
        (["Type=Reshape"], r"^net.ini:1: \[x\] Dims is missing"),
        (["Type=Transpose"], r"^net.ini:1: \[x\] Perm is missing"),
        (["Type=Transpose", "Perm=1 1"], r"^net.ini:1: \[x\] perm=\[1, 1\] is illegal"),
        (["Type=Dropout", "Dropout=2"], r"^net.ini:3: \[x\] Dropout='2' is illegal"),
        (["Type=Softmax", "WithLoss=yes"], r"^net.ini:3: \[x\] WithLoss='yes' is illegal: it must be 0 or 1"),
        (["Type=ElemWise", "Operation=Add"], r"^net.ini:3: \[x\] Operation='Add' is illegal; legal: AbsSum"),
        (["Type=Activation", "ActivationFunction=LogisticWithLoss"], r"^net.ini:3: .* is refused: use Logistic"),
        (
            ["Type=Activation", "ActivationFunction=ReLU"],
            r"^net.ini:3: .*='ReLU' is illegal; did you mean 'Rectifier'\?",
        ),
        (["Type=Activation", "ActivationFunction='sigmoid'"], r"is illegal; did you mean 'Logistic'\?"),
        (["Type=Linear"], r"^net.ini:2: \[x\] Type='Linear' is illegal; did you mean 'Fc'\?"),
        (["Type=Quux"], r"^net.ini:2: \[x\] Type='Quux' is illegal; legal: Activation, BatchNorm"),
        (["Type=Dropout", "Model=Frane"], r"^net.ini:3: \[x\] Model='Frane' is illegal; did you mean 'Frame'\?"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(lines, message):
    with pytest.raises(ini.IniError, match=message):
        read_cell(section_of(*lines), INPUTS)


def test_names_of_other_libraries_lead_to_names_that_are_here():
    assert {*ELSEWHERE.values()} <= {*KINDS, *activation.ACTIVATIONS}


@pytest.mark.parametrize(
    "lines",
    [
        ("Type=Conv", "KernelDims=3 3"),
        ("Type=Conv", "KernelDims=3 3", "Mapping.NbGroups=4"),
        ("Type=Deconv", "KernelDims=2 2"),
        ("Type=Fc",),
        ("Type=Pool", "PoolDims=2 2", "Mapping.Size=1"),
    ],
)
def test_what_no_memory_holds_is_told_with_its_section(lines):
    with pytest.raises(ini.IniError, match=r"^net.ini:1: \[x\] "):
        read_cell(section_of(*lines, f"NbOutputs={10**16}"), INPUTS)


@pytest.mark.parametrize("kind", REFUSED_CELLS)
def test_cells_that_are_not_here_are_refused_by_name(kind):
    assert kind not in KINDS
    with pytest.raises(ini.IniError, match=rf"^net.ini:2: \[x\] Type={kind} is refused: \w+"):
        cell_of(kind)


@pytest.mark.parametrize("model", REFUSED_MODELS)
def test_spiking_models_are_refused_by_name(model):
    with pytest.raises(ini.IniError, match=rf"^net.ini:3: \[x\] Model={model} is refused: .*Frame"):
        cell_of("Dropout", f"Model={model}")


@pytest.mark.parametrize("key", ["QWeight=SAT", "QWeight=LSQ"])
def test_quantization_is_refused_by_name(key):
    with pytest.raises(ini.IniError, match=r"^net.ini:2: \[x\] QWeight=.* is refused: quantization is another subject"):
        read_quantizer(section_of(key))
    with pytest.raises(ini.IniError, match=r"^net.ini:3: \[x\] QAct is refused: quantization is another subject"):
        cell_of("Dropout", "QAct=SAT")


def test_nothing_is_computed_in_other_datatypes():
    assert cell_of("Dropout", "DataType=Float32").name == "x"
    with pytest.warns(ini.IniWarning, match=r"net.ini:3: \[x\]\s?DataType has no effect here"):
        cell_of("Dropout", "DataType=Float16")
