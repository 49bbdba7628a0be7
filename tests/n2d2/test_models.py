"""Networks by name: their parameters against the published counts, what they compute, and that all can be pruned."""

import pytest
import torch
from torch import nn

import n2d2
from n2d2.cells import BatchNorm2d, Conv, Deconv, Dropout, Fc, Pool2d
from n2d2.cells.cell import Cell
from n2d2.error_handler import ImplementationError, UndefinedParameterError, WrongInputType, WrongValue
from n2d2.models import (
    VGG,
    VGG11,
    VGG13,
    VGG16,
    VGG19,
    LeNet,
    LeNetBN,
    MobileNetv1,
    MobileNetV2,
    ResNet,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    SegmentationNetwork,
)
from n2d2.quantizer import PruneCell

IMAGENET = (3, 224, 224)

NETWORKS = [  # what makes it, its parameters, its input, its classes, its convolutions and Fc
    (LeNet, 61_470, (1, 32, 32), 10, 5),  # 150 + 2,400 + 48,000 + 10,080 + 840: no biases
    (LeNetBN, 61_470 + 2 * 142, (1, 32, 32), 10, 5),
    (lambda: MobileNetv1(with_bn=True), 4_231_976, IMAGENET, 1000, 28),  # published as 4.2 M
    (MobileNetv1, 4_231_976 - 2 * 10_944, IMAGENET, 1000, 28),
    # Published: 3,504,872. Here an expansion by 1 and its normalization more (1,024 + 64); 1,280 normalized maps and
    # 1,000 biases less.
    (MobileNetV2, 3_504_872 + 1_088 - 2_560 - 1_000, IMAGENET, 1000, 54),
    (ResNet18, 11_689_512, IMAGENET, 1000, 21),
    (ResNet34, 21_797_672, IMAGENET, 1000, 37),
    (ResNet50, 25_557_032, IMAGENET, 1000, 54),
    (ResNet101, 44_549_160, IMAGENET, 1000, 105),
    (ResNet152, 60_192_808 + 2 * 1_117_184, IMAGENET, 1000, 162),  # N2D2's third stage has 38 blocks, not 36
    (VGG11, 132_863_336, IMAGENET, 1000, 11),
    (VGG13, 133_047_848, IMAGENET, 1000, 13),
    (VGG16, 138_357_544, IMAGENET, 1000, 16),
    (VGG19, 143_667_240, IMAGENET, 1000, 19),
    (lambda: VGG16(batchnorm=True), 138_365_992, IMAGENET, 1000, 16),
]


@pytest.fixture
def meta(monkeypatch):
    """Cells have their parameters on torch's meta device, and nothing is drawn for them."""
    monkeypatch.setattr(Cell, "placed", lambda _, layer: layer.to("meta"))
    for kind in (nn.Linear, nn.modules.conv._ConvNd):
        monkeypatch.setattr(kind, "reset_parameters", lambda _: None)


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize(("make", "n_parameters", "shape", "n_classes", "n_prunable"), NETWORKS)
def test_it_has_the_published_parameters_and_all_weights_can_be_pruned(
    make, n_parameters, shape, n_classes, n_prunable
):
    model = make().test()
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    assert model(torch.zeros(2, *shape, device="meta")).flatten(1).shape == (2, n_classes)
    cells = [cell for cell in model.get_cells().values() if isinstance(cell, Conv | Fc)]
    assert len(cells) == n_prunable
    for cell in cells:
        cell.quantizer = PruneCell()
    assert len(model.quantizers()) == n_prunable


@pytest.mark.parametrize(
    "model", [LeNet(4), LeNetBN(4), MobileNetv1(4, alpha=0.25, with_bn=True)], ids=lambda model: model.name
)
def test_it_learns_with_pruned_weights(model):
    torch.manual_seed(0)
    for cell in model.get_cells().values():
        if isinstance(cell, Conv | Fc):
            cell.quantizer = PruneCell(prune_mode="Static", threshold=0.5)
    side = 1 if isinstance(model[0], Conv) else 3
    provider = n2d2.provider.DataProvider(n2d2.database.Numpy(), [32, 32, side], batch_size=2)
    target = n2d2.target.Score(provider)
    provider.database.load([torch.rand(side, 32, 32).numpy() for _ in range(4)], [0, 1, 2, 3])
    provider.database.partition_stimuli(1.0, 0.0, 0.0)
    provider.set_partition("Learn")
    before = [p.clone() for p in model.parameters()]
    loss = target(n2d2.cells.Softmax(with_loss=True)(model.learn()(provider.read_batch(0))))
    loss.back_propagate()
    loss.update()
    moved = [not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)]
    assert sum(moved) >= len(moved) - 1
    for quantizer in model.quantizers().values():
        assert torch.as_tensor(quantizer.get_quantized_weights().to_numpy()).eq(0).float().mean() >= 0.5


def test_lenet_is_n2d2s():
    model = LeNet(10)
    kinds = [Conv, Pool2d, Conv, Pool2d, Conv, Fc, Dropout, Fc]
    assert [type(cell) for cell in model] == kinds
    assert all(cell.no_bias and cell.bias is None for cell in model if isinstance(cell, Conv | Fc))
    assert all(cell.connections is None for cell in model if isinstance(cell, Conv))
    told = [cell.get_activation().get_type() for cell in model if isinstance(cell, Conv | Fc)]
    assert told == ["Linear", "Linear", "Linear", "Rectifier", "Linear"]
    fillers = [cell.weights_filler.brief() for cell in model if isinstance(cell, Conv | Fc)]
    assert fillers == ["Xavier(variance_norm=FanOut)"] * 3 + ["Normal(std_dev=0.01)"] * 2
    assert [type(cell) for cell in LeNetBN(10)][:3] == [Conv, BatchNorm2d, Pool2d]
    assert LeNetBN(10)[1].get_activation().get_type() == "Rectifier"


def test_parts_have_n2d2s_names():
    model = MobileNetv1(3, alpha=0.25, with_bn=True)
    assert [part.get_name() for part in model] == ["extractor", "head"]
    assert [part.get_name() for part in model.extractor] == ["div2", "div4", "div8", "div16", "div32"]
    names = [cell.get_name() for cell in model.get_cells().values() if isinstance(cell, Cell)]
    assert names[:4] == ["conv1", "bn1", "conv1_3x3_dw", "bn1_3x3_dw"]
    assert names[-3:] == ["bn9_1x1", "pool1", "fc"]
    assert "conv7_5_1x1" in names


@pytest.mark.usefixtures("meta")
def test_networks_have_n2d2s_names():
    assert ResNet.generate(50).get_name() == "ResNetv1-50"
    assert ResNet18(name="mine").get_name() == "mine"
    model = VGG(16, batchnorm=True)
    assert (model.get_name(), model.backbone.get_name()) == ("VGG16_bn", "Backbone")
    assert model.head[0].get_nb_channels() == 7 * 7 * 512


@pytest.mark.parametrize("wrapped", [False, True])
def test_segmentation_gives_classes_to_all_pixels(wrapped):
    backbone = n2d2.models.mobilenetv1.MobileNetv1Extractor(0.25)
    features = [backbone.div4, backbone.div8, backbone.div16, backbone.div32]
    model = SegmentationNetwork(backbone, features, [32, 64, 128, 256])
    x = torch.rand(2, 3, 64, 96)
    y = model(n2d2.Tensor.from_torch(x)).values if wrapped else model(x)
    assert y.shape == (2, 5, 64, 96)
    y.sum().backward()
    cells = {name: cell for name, cell in model.get_cells().items() if isinstance(cell, Conv | Deconv)}
    assert {name for name, cell in cells.items() if cell.weight.grad is not None} == {*cells} & {*model[1].get_cells()}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ResNet.generate(20), WrongValue, "size=20 is illegal: it must be one of 18, 34, 50"),
        (lambda: ResNet18(version=2), WrongValue, "version=2 is illegal: only version 1 can be generated"),
        (lambda: VGG(12), WrongValue, "size=12 is illegal: it must be one of 11, 13, 16"),
        (lambda: MobileNetv1(alpha=0.0), WrongValue, "alpha=0.0 is illegal"),
        (lambda: SegmentationNetwork(LeNet(), [], [1, 2, 3, 4]), WrongValue, "features of 0 is illegal"),
        (lambda: SegmentationNetwork(LeNet(), [1] * 4, [1] * 4), WrongInputType, "features are cells"),
        (lambda: ResNet.load_from_ONNX(None, "20"), WrongValue, "resnet_type='20' is illegal"),
        (lambda: ResNet.load_from_ONNX(None, "18", "v3"), WrongValue, "version='v3' is illegal"),
        (lambda: VGG.load_from_ONNX(None, "12"), WrongValue, "vgg_type='12' is illegal"),
        (lambda: MobileNetV2.load_from_ONNX(None), WrongValue, "give the path of mobilenetv2-1.0.onnx"),
        (lambda: VGG16.load_from_ONNX(None, path="a", download=True), WrongValue, "illegal together"),
        (lambda: ResNet50.load_from_ONNX(None, download=True), ImplementationError, "get resnet50v1 from https://"),
        (lambda: n2d2.models.resnet.load_from_ONNX(None, "18", "post_act", download=True), ImplementationError, "18v2"),
        (lambda: n2d2.models.MobileNetV1, UndefinedParameterError, "did you mean 'MobileNetv1'"),
    ],
)
def test_mistakes_are_told_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.fixture
def file(tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "net",
        [onnx.helper.make_tensor_value_info("x", 1, [2, 1, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", 1, [2, 1, 8, 8])],
    )
    path = tmp_path / "net.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


LOADS = [  # where N2D2 keeps the file, what loads it
    ("resnet-18-v1/resnet18v1.onnx", lambda *args, **more: ResNet.load_from_ONNX(*args, "18", **more)),
    ("resnet-50-v2/resnet50v2.onnx", lambda *args, **more: ResNet50.load_from_ONNX(*args, "post_act", **more)),
    ("vgg16-bn/vgg16-bn.onnx", lambda *args, **more: VGG.load_from_ONNX(*args, "16", batchnorm=True, **more)),
    ("vgg19/vgg19.onnx", VGG19.load_from_ONNX),
    (
        "mobilenetv2/mobilenetv2-1.0.onnx",
        lambda *args, **more: MobileNetV2.load_from_ONNX(*args, dims=[8, 8, 1], batch_size=2, **more),
    ),
]


@pytest.mark.parametrize(("kept", "load"), LOADS)
def test_a_file_that_is_there_is_read(kept, load, file, tmp_path, monkeypatch):
    provider = n2d2.provider.DataProvider(n2d2.database.Numpy(), [8, 8, 1], batch_size=2)
    assert list(load(provider, path=file).get_cells()) == ["y"]
    monkeypatch.setattr(n2d2.global_variables, "model_cache", str(tmp_path / "cache"))
    place = tmp_path / "cache" / "ONNX" / kept
    with pytest.raises(ImplementationError, match=f"nothing is fetched here; get .* and put it at {place}"):
        load(provider, download=True)
    place.parent.mkdir(parents=True)
    file.rename(place)
    assert list(load(provider, download=True).get_cells()) == ["y"]


PREPROCESSINGS = {  # the transformations, and what they make of blue 200, green 100, red 50
    "BGR": (lambda: n2d2.models.ILSVRC_preprocessing(24, margin=8), [1.63302, -0.28526, -1.25256]),
    "v2": (lambda: [MobileNetV2.ONNX_preprocessing(24)], [-1.26167, -0.28501, 1.68139]),
    "resnet": (lambda: [ResNet.ONNX_preprocessing(24, margin=8)], [-1.26167, -0.28501, 1.68139]),
}


@pytest.mark.parametrize("name", PREPROCESSINGS)
@pytest.mark.parametrize("partition", ["Learn", "Test"])
def test_preprocessing_makes_images_of_the_networks_size_and_range(name, partition):
    make, expected = PREPROCESSINGS[name]
    image = torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None].expand(3, 40, 50)
    database = n2d2.database.Numpy()
    database.load([image.numpy()] * 2, [0, 1], partition)
    provider = n2d2.provider.DataProvider(database, [24, 24, 3], batch_size=2)
    once, *each_time = make()
    provider.add_transformation(once)
    for transformation in each_time:
        provider.add_on_the_fly_transformation(transformation)
    provider.set_partition(partition)
    values = torch.as_tensor(provider.read_batch(0).to_numpy())
    assert values.shape == (2, 3, 24, 24)
    for channel, value in enumerate(expected):
        torch.testing.assert_close(values[:, channel], torch.full((2, 24, 24), value), rtol=1e-4, atol=1e-4)
