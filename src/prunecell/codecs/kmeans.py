"""k-means of numbers on a line: few shared values in place of many."""

import numpy as np

from prunecell.codecs.dtypes import Numbers

_ROUNDS = 100


def centers_of(values: Numbers, count: int) -> Numbers:
    """Return at most `count` centers, ascending, that are near to the values in the least-squares sense.

    Lloyd's algorithm from centers spread evenly between the extremes, the start that Deep Compression found
    best because it keeps the few large weights (Han et al. 2016, https://arxiv.org/abs/1510.00149). The
    values are sorted once; then a round costs a search for the boundaries in place of a pass over the values.

    Args:
        values: finite numbers, any count.
        count: at least 1.

    >>> centers_of(np.array([1.0, 1.5, 8.0, 9.0]), 2).tolist()
    [1.25, 8.5]
    """
    ordered = np.sort(np.asarray(values, np.float64))
    if not len(ordered):
        return ordered
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centers = np.linspace(ordered[0], ordered[-1], count)
    cuts = np.empty(0, np.int64)
    for _ in range(_ROUNDS):
        inner = np.searchsorted(ordered, (centers[1:] + centers[:-1]) / 2)
        if np.array_equal(inner, cuts):
            break
        cuts = inner
        edges = np.concatenate([[0], cuts, [len(ordered)]])
        counts = np.diff(edges)
        centers = np.where(counts, np.diff(sums[edges]) / np.maximum(counts, 1), centers)
        centers = np.sort(centers)
    return np.unique(centers)


def nearest_center(values: Numbers, centers: Numbers) -> Numbers:
    """Return, for each value, the index of the center nearest to it (the lower one of two equally near)."""
    return np.searchsorted((centers[1:] + centers[:-1]) / 2, values)
