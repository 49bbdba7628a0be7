"""Networks that are known by name, from their papers' tables, as N2D2 has them.

lenet, vgg, resnet, mobilenetv1, mobilenetv2   one family each
segmentation_network     a class for each pixel
zoo                      networks of the ONNX model zoo
ILSVRC_outils            transformations of ImageNet's images
"""

from n2d2.error_handler import UndefinedParameterError
from n2d2.models import ILSVRC_outils, lenet, mobilenetv1, mobilenetv2, resnet, segmentation_network, vgg
from n2d2.models.ILSVRC_outils import ILSVRC_preprocessing
from n2d2.models.lenet import LeNet, LeNetBN
from n2d2.models.mobilenetv1 import MobileNetv1
from n2d2.models.mobilenetv2 import MobileNetV2
from n2d2.models.resnet import ResNet, ResNet18, ResNet34, ResNet50, ResNet101, ResNet152
from n2d2.models.segmentation_network import (
    DecoderConv,
    DecoderDeconv,
    DecoderFuse,
    DecoderPadding,
    SegmentationNetwork,
)
from n2d2.models.vgg import VGG, VGG11, VGG13, VGG16, VGG19, VGGBackbone, VGGHead
from prunecell.errors import nearest

__all__ = [
    "VGG",
    "VGG11",
    "VGG13",
    "VGG16",
    "VGG19",
    "DecoderConv",
    "DecoderDeconv",
    "DecoderFuse",
    "DecoderPadding",
    "ILSVRC_outils",
    "ILSVRC_preprocessing",
    "LeNet",
    "LeNetBN",
    "MobileNetV2",
    "MobileNetv1",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "SegmentationNetwork",
    "VGGBackbone",
    "VGGHead",
    "lenet",
    "mobilenetv1",
    "mobilenetv2",
    "resnet",
    "segmentation_network",
    "vgg",
]


def __getattr__(name: str) -> object:
    """Say which network was meant."""
    raise UndefinedParameterError(f"n2d2.models has no {name!r}{nearest(name, __all__)}")
