"""What transformations do to an image of MNIST: a picture of it as it is, and of each transformation.

python examples/n2d2/data_augmentation.py
"""

import argparse

import matplotlib.pyplot as plt

import n2d2
from n2d2.transform import Composite, Distortion, Flip, PadCrop, Rescale, SliceExtraction

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data_path", help="a folder with MNIST's IDX files; by default they are fetched")
args = parser.parse_args()

n2d2.global_variables.seed = 1
database = n2d2.database.MNIST(data_path=args.data_path, validation=0.1)
database.get_partition_summary()

AUGMENTATIONS = {
    "flipped": Flip(vertical_flip=True),
    "distorted": Distortion(elastic_gaussian_size=15, elastic_sigma=6, elastic_scaling=20, scaling=5, rotation=10),
    "shifted": Composite([PadCrop(32, 32), SliceExtraction(28, 28, random_offset_x=True, random_offset_y=True)]),
    "zoomed": Composite([Rescale(40, 40), PadCrop(28, 28)]),
}

pictures = {}
for name, transformation in {"original": None, **AUGMENTATIONS}.items():
    provider = n2d2.provider.DataProvider(database, [28, 28, 1], batch_size=1)  # it reads Test
    if transformation is not None:
        provider.add_on_the_fly_transformation(transformation)  # at each reading, where add_transformation is once
    image = provider.read_batch(idx=0).to_numpy() * 255  # stimuli reach the network in [0, 1]
    plt.imsave(f"{name}.png", image[0, 0], cmap="gray", vmin=0, vmax=255)
    print(f"{name}.png: label {provider.get_labels()[0]}, mean {image.mean():.1f}")
