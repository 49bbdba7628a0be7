"""N2D2's databases: labelled stimuli in the partitions Learn, Validation and Test.

Building one touches no file: the data is opened (MNIST: fetched) when a stimulus is first asked for, so a network is
built from its INI file on a machine that does not have the data. Colours are blue, green, red, as in N2D2. Partitions
are drawn by chance, always the same, or in the order of the data.

base                 what all databases share
arrays               numpy arrays of the script
folders              folders of images or tables
published, layouts   sets by their names: divided already, or as folders of images
labels               labels out of a file
files                one stimulus from a file
reading              stimuli, through what is done once
"""

from typing import TYPE_CHECKING, NoReturn

from n2d2.database.arrays import Numpy
from n2d2.database.base import PARTITIONS, Database, Stimuli
from n2d2.database.folders import DIR
from n2d2.database.layouts import GTSRB, ILSVRC2012
from n2d2.database.published import CIFAR10, CIFAR100, MNIST, FashionMNIST
from n2d2.error_handler import no_such_name
from n2d2.refusal import refused_class

Cityscapes = refused_class(
    "n2d2.database.Cityscapes", "segmentation is not here; classification is: DIR reads folders of images"
)

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "DATABASES",
    "DIR",
    "GTSRB",
    "ILSVRC2012",
    "MNIST",
    "PARTITIONS",
    "Cityscapes",
    "Database",
    "FashionMNIST",
    "Numpy",
    "Stimuli",
]

DATABASES: dict[str, type[Database]] = {  # N2D2's names in INI files
    "CIFAR100_Database": CIFAR100,
    "CIFAR10_Database": CIFAR10,
    "DIR_Database": DIR,
    "Fashion_MNIST_IDX_Database": FashionMNIST,
    "GTSRB_DIR_Database": GTSRB,
    "ILSVRC2012_Database": ILSVRC2012,
    "MNIST_IDX_Database": MNIST,
}


if not TYPE_CHECKING:  # a type checker would take every name for a member

    def __getattr__(name: str) -> NoReturn:
        raise no_such_name(__name__, name, globals())
