"""An INI file to a network that learns: the documented example, jobs, and what is wrong with a file."""

import struct
import warnings
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import n2d2
import prunecell as pc
from n2d2 import ini
from n2d2.cells import DeepNetCell
from n2d2.experiment.experiment import build, read
from n2d2.experiment.run import run
from prunecell.data.sets import MNIST_MD5
from prunecell.errors import DataError
from prunecell.training.accuracy import evaluate
from prunecell.training.fitting import Task, fit

DOCUMENTED = """\
[conv1]
Input=sp
Type=Conv
KernelDims=5 5
NbOutputs=6
ActivationFunction=Rectifier
WeightsFiller=HeFiller
ConfigSection=common.config
QWeight=Prune
QWeight.PruningMode=Static
QWeight.PruningFiller=IterNonStruct
QWeight.Threshold=0.3
QWeight.StartThreshold=0.1
QWeight.GammaThreshold=0.1
"""
LENET = f"""\
DefaultModel=Frame
[database]
Type=MNIST_IDX_Database
Validation=0.25
[sp]
SizeX=32
SizeY=32
BatchSize=3
[sp.Transformation]
Type=PadCropTransformation
Width=32
Height=32

{DOCUMENTED}
[pool1]
Input=conv1
Type=Pool
PoolDims=2 2
Stride=2
Pooling=Max
NbOutputs=[conv1]NbOutputs
Mapping.Size=1

[conv2] conv1
Input=pool1
NbOutputs=16

[pool2] pool1
Input=conv2
NbOutputs=16

[fc1]
Input=pool2
Type=Fc
NbOutputs=20
ConfigSection=common.config
ActivationFunction=Rectifier

[fc2] fc1
Input=fc1
NbOutputs=4
ActivationFunction=Linear

[softmax]
Input=fc2
Type=Softmax
WithLoss=1
NbOutputs=4
[softmax.Target]

[common.config]
NoBias=1
Solvers.LearningRate=0.01
Solvers.Momentum=0.9
"""


def idx(tensor):
    return b"\0\0\x08" + struct.pack(f">B{tensor.ndim}I", tensor.ndim, *tensor.shape) + bytes(tensor.flatten().tolist())


@pytest.fixture
def data(tmp_path):
    """Files as MNIST's: 16 + 4 images, whose label is the quadrant that is bright."""
    labels = torch.arange(20) % 4
    images = torch.zeros(20, 28, 28, dtype=torch.int64)
    for image, label in zip(images, labels.tolist(), strict=True):
        image.view(2, 14, 2, 14)[label // 2, :, label % 2] = 255
    for name, part in zip(MNIST_MD5, (images[:16], labels[:16], images[16:], labels[16:]), strict=True):
        (tmp_path / name).write_bytes(idx(part))
    return tmp_path


@pytest.fixture
def path(tmp_path):
    (tmp_path / "lenet.ini").write_text(LENET)
    return tmp_path / "lenet.ini"


def lenet(*, without="", **changes):
    """The network, with some lines changed: NAME=value by `NAME="new"`, and one left out."""
    lines = [line for line in LENET.splitlines() if line != without or not without]
    text = "\n".join(lines)
    for old, new in changes.items():
        text = text.replace(old, new)
    return ini.parse(text, file="lenet.ini")


# ---- networks


def test_the_documented_section_inside_a_whole_lenet():
    network = build(lenet())
    assert [cell.name for cell in network.model] == ["conv1", "pool1", "conv2", "pool2", "fc1", "fc2", "softmax"]
    names = [name for name, _ in network.model.named_parameters()]
    assert names == [f"{cell}.layer.weight" for cell in ("conv1", "conv2", "fc1", "fc2")]
    assert network.model["conv1"].weights_solver.momentum == 0.9
    spec = network.plan["conv1.layer.weight"]
    assert (spec.schedule, spec.filler) == (pc.Static(sparsity=0.3), pc.IterNonStruct(delta=0.001))


def test_it_is_dense_until_its_prune_cells_are_put_on():
    network = build(lenet())
    assert all(bool(parameter.all()) for parameter in network.model.parameters())
    model = network.model
    for name, quantizer in network.network.quantizers.items():
        model[name].quantizer = quantizer
    for name in ("conv1", "conv2"):
        assert model[name].quantizer is network.network.quantizers[name]
        assert 0.3 <= (model[name].weight == 0).float().mean() < 0.35
    assert model["fc1"].weight.all()


def test_a_network_is_built_without_its_data(monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNECELL_DATA", str(tmp_path))
    network = build(lenet())
    assert network.provider.database._stimuli is None
    assert network.provider.epoch_size == 45_000
    assert [*tmp_path.iterdir()] == []


def test_load_gives_a_network_that_fits_and_tests_itself(path, data, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the weights where the validation was best are written
    torch.manual_seed(0)
    model = DeepNetCell.load_from_INI(path, data_path=data)
    assert isinstance(model, DeepNetCell)
    assert model["conv1"].has_quantizer()
    model.fit(learn_epoch=20)
    assert model.run_test() == 1
    assert 0.3 <= (model["conv1"].weight == 0).float().mean() < 0.35
    assert "epoch 20 of 20: loss" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_network():
    networks = [build(lenet(), seed=3).model.state_dict() for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in networks), strict=True))


def test_unconnected_weights_are_zero_and_no_part_of_what_is_pruned():
    table = "Mapping(pool1)=" + "1 0 " * 8 + "1 1 " * 40
    network = build(lenet(**{"Input=pool1": f"Input=pool1\n{table}"}))
    there = network.model["conv2"].connections
    assert int((~there).sum()) == 8 * 25
    report = pc.Pruner(network.model, network.plan).report()
    facts = {weight.name: weight for weight in report.weights}["conv2.layer.weight"]
    assert facts.n_weights == (16 * 6 - 8) * 25
    assert 0.3 <= 1 - facts.n_kept / facts.n_weights < 0.32


def test_a_target_at_another_cell_than_the_last_decides_the_output():
    network = build(lenet(**{"[softmax.Target]": "[fc2.Target]\nTargetValue=2\nDefaultValue=-1"}))
    assert network.model.outputs == ["fc2"]
    scores = torch.tensor([[2.0, -1, -1, -1], [-1, 2, -1, 1]], requires_grad=True)
    loss = network.network.loss(scores, torch.tensor([0, 1]))
    assert loss.item() == 1  # half of 2 squared, over 2 stimuli
    loss.backward()
    assert scores.grad.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]


def test_softmax_with_loss_means_cross_entropy():
    loss = build(lenet()).network.loss
    logits, labels = torch.randn(3, 4), torch.tensor([1, -1, 2])  # -1: no label
    wanted = torch.nn.functional.cross_entropy(logits[[0, 2]], labels[[0, 2]])
    assert torch.equal(loss(logits, labels), wanted)
    assert torch.equal(loss(logits[:, :, None, None], labels), wanted)


def test_several_targets_at_one_cell_measure_it_in_several_ways():
    network = build(lenet(**{"[softmax.Target]": "[softmax.Target]\n[softmax.Target-Top3]\nTopN=3"}))
    assert [target.options.top_n for target in network.network.targets] == [1, 3]


# ---- jobs


def test_a_job_of_a_file(path, data):
    job = read(path, data_path=data)
    assert (job.name, job.provider.epoch_size) == ("lenet", 12)
    inputs = torch.cat([x for x, _ in job.train(0)])
    assert inputs.shape == (12, 1, 32, 32)
    assert (inputs.min(), inputs.max()) == (0, 1)
    assert [len(labels) for _, labels in job.stimuli("Validation")] == [3, 1]
    assert sum(len(labels) for _, labels in job.stimuli("Test")) == 4


def test_a_job_without_validation(path, data):
    path.write_text(LENET.replace("Validation=0.25", ""))
    job = read(path, data_path=data)
    assert (list(job.stimuli("Validation")), job.provider.epoch_size) == ([], 16)


def test_the_batches_of_an_epoch_are_a_function_of_seed_and_epoch(path, data):
    def order(seed, epoch):
        return torch.cat([x for x, _ in read(path, data_path=data, seed=seed).train(epoch)])

    assert torch.equal(order(0, 1), order(0, 1))
    assert not torch.equal(order(0, 1), order(0, 2))
    assert not torch.equal(order(0, 1), order(1, 1))


def test_a_job_learns_under_its_plan(path, data):
    torch.manual_seed(0)
    job = read(path, data_path=data)
    model = job.fresh()
    assert model.provider is None  # a copy of the model is no copy of the data
    optimizer = job.optimizer(model)
    pruner = pc.Pruner(model, job.plan, optimizer=optimizer, epoch_size=job.provider.epoch_size)
    validation = partial(job.stimuli, "Validation")
    task = Task(model=model, optimizer=optimizer, train=job.train, validation=validation, keeper=pruner)
    assert fit(task, 20).epochs[-1].accuracy == 1
    assert evaluate(model, job.stimuli("Test")) == 1
    assert 0.3 <= pruner.sparsity < 0.32


def test_seeds_of_drawn_masks_differ_by_cell_and_by_seed():
    network = build(lenet(**{"PruningFiller=IterNonStruct": "PruningFiller=Random"}))
    seeds = {spec.seed for seed in (0, 1) for spec in network.network.plan_of_cells(seed).values()}
    assert len(seeds) == 4


def test_labels_without_an_output_are_told_before_anything_is_learned(path, data):
    path.write_text(LENET.replace("NbOutputs=4", "NbOutputs=3"))
    with pytest.raises(ini.IniError, match=r"lenet.ini:\d+: \[softmax\] has 3 outputs, and the data has 4 labels"):
        next(iter(read(path, data_path=data).train(0)))


@pytest.mark.parametrize(("old", "new"), [("QWeight", ";"), ("PruningMode=Static", "PruningMode=Identity")])
def test_a_job_that_prunes_nothing_is_refused(path, old, new):
    path.write_text(LENET.replace(old, new))
    with pytest.raises(ini.IniError, match=r"lenet.ini: nothing is pruned: no section has QWeight=Prune"):
        run(read(path), path.parent / "out", epochs=1)
    assert not (path.parent / "out").exists()


# ---- what is wrong with a file


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "QWeight.Threshold",
            "QWeight.Treshold",
            r"lenet.ini:25: .*QWeight.Treshold: nothing reads .*'QWeight.Threshold'",
        ),
        ("PoolDims", "PoolDim", r"lenet.ini:29: \[pool1\] PoolDims is missing; is 'PoolDim' misspelt"),
        ("[softmax.Target]", "", r"lenet.ini: section \[softmax.Target\] is missing"),
        ("[softmax.Target]", "[softmax.Tagret]", r"did you mean 'softmax.Tagret'"),
        (
            "[softmax.Target]",
            "[softmax.Target]\n[softmx.Target]",
            r"\[softmx.Target\] is illegal: there is no cell \[softmx",
        ),
        (
            "[softmax.Target]",
            "[pool2.Target]",
            r"lenet.ini:\d+: \[pool2.Target\] is illegal: \[pool2\] gives 16 x 5 x 5",
        ),
        ("[softmax.Target]", "[softmax.Target]\nType=TargetROIs", r"TargetROIs is refused: object detection"),
        ("[softmax.Target]", "[softmax.Target]\nLabelsMapping=x", r"LabelsMapping is refused"),
        ("[softmax.Target]", "[pool2.Target]\nDataAsTarget=1", r"DataAsTarget is refused: networks that reproduce"),
        ("DefaultModel=Frame", "DefaultModel=Transcode", r"^lenet.ini:1: DefaultModel=Transcode is refused: .*spikes"),
        ("DefaultModel=Frame", "DefaultModl=Frame", r"^lenet.ini:1: DefaultModl: nothing reads .*DefaultModel"),
        ("[common.config]", "[common.cnofig]", r"there is no section \[common.config\]; did you mean 'common.cnofig'"),
        ("Solvers.Momentum", "Solvers.Momentun", r"\[common.config\] Solvers.Momentun: nothing reads this key"),
        ("Type=Pool\n", "", r"^lenet.ini:\d+: \[pool1\] Type is missing"),
        ("NoBias=1", "NoBias=maybe", r"\[conv1\] NoBias='maybe' is illegal: it must be 0 or 1"),
        ("Input=fc2", "Input=fc3", r"\[softmax\] Input='fc3' is illegal: there is no section \[fc3\]; did you mean"),
    ],
)
def test_what_is_wrong_is_told(old, new, message):
    with pytest.raises(ini.IniError, match=message):
        build(lenet(**{old: new}))


def test_without_cells_there_is_no_network():
    text = LENET[: LENET.index("[conv1]")]
    with pytest.raises(ini.IniError, match=r"lenet.ini: no section has an Input, so there is no cell"):
        build(ini.parse(text, file="lenet.ini"))


def test_lenient_warns_of_keys_that_nothing_reads(path):
    path.write_text(LENET.replace("Solvers.Momentum", "Solvers.Momentun"))
    with pytest.warns(ini.IniWarning, match="Solvers.Momentun"):
        model = DeepNetCell.load_from_INI(path, lenient=True)
    assert model["fc1"].weights_solver.momentum == 0


def test_weights_that_begin_as_zeros_are_told_where_all_would_be_pruned():
    zeros = {"WeightsFiller=HeFiller": "WeightsFiller=HeFiller\nWeightsFiller.Scaling=0.0"}
    with pytest.warns(
        ini.IniWarning, match=r"lenet.ini: \[conv.\] begins with zeros, and IterNonStruct prunes all zeros"
    ):
        network = build(lenet(**zeros))
    assert not network.model["conv1"].weight.any()
    build(lenet(**zeros, **{"PruningFiller=IterNonStruct": "PruningFiller=Random"}))


def test_data_that_is_not_there_is_told_when_it_is_read(path, tmp_path):
    job = read(path, data_path=tmp_path / "nowhere")
    with pytest.raises(DataError, match="nowhere"):
        next(iter(job.stimuli("Test")))


VALUES = [
    "",
    *(f"{n}" for n in (0, -1, 1.5, 1e30)),
    "x",
    "1 2 3",
    "sp",
    "conv2",
    "fc1,conv1",
    "Pool",
    "Reshape",
    "$(1/0)",
]
LINES = """\
Padding=3
SubSample=9
Mapping.NbGroups=2
Mapping(pool1)=1
Dims=1 1 -1
Perm=0 2 1 3
WeightsFiller.Scaling=0
Solvers.LearningRatePolicy=PolyDecay
QWeight.Delta=0
Input=[fc2]_NbOutputs
[x]
[fc1]""".splitlines()


@settings(max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 70), st.sampled_from(["drop", "set", "add"]), st.integers(0, 99)), max_size=3))
def test_any_file_is_built_or_refused_with_its_line(changes):
    lines = LENET.splitlines()
    for place, what, number in changes:
        where = place % len(lines)
        if what == "drop":
            del lines[where]
        elif what == "add":
            lines.insert(where, LINES[number % len(LINES)])
        else:
            lines[where] = f"{lines[where].partition('=')[0]}={VALUES[number % len(VALUES)]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ini.IniWarning)
        try:
            build(ini.parse("\n".join(lines), file="net.ini"), data_path="/nowhere")
        except ini.IniError as error:
            assert str(error).startswith("net.ini:")  # noqa: PT017 - it may as well be built


def test_a_copy_begins_as_the_first_did_and_the_generator_too():
    experiment = build(lenet())
    first = torch.rand(3)
    copied = experiment.fresh()
    assert torch.equal(torch.rand(3), first)
    assert all(torch.equal(a, b) for a, b in zip(copied.parameters(), experiment.model.parameters(), strict=True))


def test_a_script_and_an_ini_file_draw_the_same_masks_under_one_seed(path):
    path.write_text(LENET.replace("PruningFiller=IterNonStruct", "PruningFiller=Random"))
    experiment = read(path, seed=7)
    masks = pc.Pruner(experiment.model, experiment.plan).masks
    n2d2.global_variables.seed = 7
    try:
        script = DeepNetCell.load_from_INI(path)
    finally:
        n2d2.global_variables.seed = 0
    for name in ("conv1", "conv2"):
        mask = script[name].quantizer.get_pruned_masks().to_torch().bool()
        assert torch.equal(mask, masks[f"{name}.layer.weight"])
