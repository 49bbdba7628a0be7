"""What tells one data set from another, the same in every process: how many samples, and what stands at some places.

Shuffling and batches' order say nothing, so the items of the data set itself are looked at. Augmentation may draw from
the generators of torch, numpy and Python, which begin alike for this; items that are different all the same when they
are asked for again tell only their shapes.
"""

import json
import random
import zlib
from collections.abc import Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from prunecell.described import described
from prunecell.training.accuracy import Batches

_PLACES = 8
_TIMES = 4
"""That the items are asked for: eight pictures of which each may be flipped are twice the same in one of 256 cases."""
_SEED = 0


def fingerprint_of(loader: Batches) -> str:
    """A text that differs where the data does, as far as some of its items tell.

    >>> batches = [(torch.zeros(2, 3), torch.zeros(2))] * 5
    >>> fingerprint_of(batches) == fingerprint_of(list(batches)), fingerprint_of(batches[:4]).partition(",")[0]
    (True, 'batches: 4')
    """
    if not isinstance(loader, DataLoader):
        return _told(loader, "batches")
    batch_size = "" if loader.batch_size is None else f", in batches of {loader.batch_size}"
    return f"{_told(loader.dataset, 'samples', loader)}{batch_size}"


def _told(source: object, unit: str, loader: "DataLoader[Any] | None" = None) -> str:
    kind = type(source).__qualname__
    if isinstance(source, IterableDataset) or not isinstance(source, Sized):
        return kind
    if not hasattr(source, "__getitem__") or isinstance(source, Mapping) or not len(source):
        return f"{unit}: {len(source)}"
    places = sorted({round(place * (len(source) - 1) / (_PLACES - 1)) for place in range(_PLACES)})
    try:
        first, *again = (_items(source, places, loader) for _ in range(_TIMES))
    except Exception:  # noqa: BLE001 - a data set whose own sampler knows what to ask for may raise anything
        return f"{unit}: {len(source)}"
    told = first if all(items == first for items in again) else [_without_values(item) for item in first]
    return f"{unit}: {len(source)}, {zlib.crc32(json.dumps(told).encode()):08x}"


def _items(source: Any, places: list[int], loader: "DataLoader[Any] | None") -> list[Any]:  # noqa: ANN401
    """The items at these places as plain data, read in a worker process where the loader has some.

    A data set may open its files at the first item, and what is open must not be shared by processes.
    """
    some: DataLoader[Any] = DataLoader(
        Subset(source, places),
        batch_size=None,
        collate_fn=_itself,
        num_workers=min(loader.num_workers, 1) if loader is not None else 0,
        worker_init_fn=loader.worker_init_fn if loader is not None else None,
        multiprocessing_context=loader.multiprocessing_context if loader is not None else None,
        generator=torch.Generator().manual_seed(_SEED),
    )
    with _generators_alike():
        return [_plain(item) for item in some]


def _itself(item: object) -> object:
    return item


@contextmanager
def _generators_alike() -> Iterator[None]:
    """The generators of torch, numpy and Python begin with one seed, and are as before afterwards."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - what data sets draw from
    try:
        torch.default_generator.manual_seed(_SEED)  # not the devices' generators
        np.random.seed(_SEED)  # noqa: NPY002
        random.seed(_SEED)
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        random.setstate(before[2])


def _plain(item: object) -> Any:  # noqa: ANN401 - plain data
    """An item as numbers, text, lists and dicts; of what is no such thing and no array, the class."""
    if isinstance(item, Mapping):
        return {str(key): _plain(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_plain(value) for value in item]
    if hasattr(item, "__array_interface__"):  # a picture of Pillow
        item = np.asarray(item)
    if item is None or isinstance(item, Tensor | bool | int | float | str | bytes | np.generic):
        return described(item)
    if isinstance(item, np.ndarray) and item.dtype.kind in "biufc":
        return {"dtype": str(item.dtype), "shape": list(item.shape), "crc32": zlib.crc32(item.tobytes())}
    return {"type": type(item).__qualname__}


def _without_values(plain: Any) -> Any:  # noqa: ANN401
    """The same by kinds and shapes alone."""
    if isinstance(plain, list):
        return [_without_values(value) for value in plain]
    if isinstance(plain, dict):
        shaped = {key: value for key, value in plain.items() if key in ("dtype", "shape", "type")}
        return shaped if "crc32" in plain else {key: _without_values(value) for key, value in plain.items()}
    return type(plain).__name__
