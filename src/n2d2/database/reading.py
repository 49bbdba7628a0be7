"""Reading stimuli: from memory or from files, through the transformations that are done once."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Generator, Tensor

from n2d2.database import Stimuli
from n2d2.transform import APPLY_TO, Composite, Transformation

CHUNK = 1024  # images transformed at a time, where all of them are
ROOM = 2**30  # bytes of transformed images that are kept of the files of a partition
READERS = 4  # threads that read files while the loop computes
AHEAD = 2  # batches that they are ahead of it


def flat(transformation: Transformation) -> list[Transformation]:
    """List what a transformation, or several in one, consists of."""
    if isinstance(transformation, Composite):
        return [part for one in transformation for part in flat(one)]
    return Composite([transformation]).get_transformations()


def applied(transformations: Iterable[Transformation], partition: str) -> list[Transformation]:
    """Select those that touch a partition."""
    return [one for one in transformations if partition in APPLY_TO[one.apply_to]]


def through(chain: Iterable[Transformation], x: Tensor, generator: Generator | None) -> Tensor:
    """Apply one transformation after the other to a batch."""
    for transformation in chain:
        x = transformation(x, generator)
    return x


def in_parts(order: Tensor, size: int = CHUNK) -> list[Tensor]:
    """Cut into parts of `size` and a smaller last one."""
    return [order[start : start + size] for start in range(0, len(order), size)]


class Images:
    """The images of one partition after the transformations that are done once.

    What a transformation draws by chance is the same always. Images in memory are all transformed at the first
    reading and kept; those in files are read ahead by threads and kept as far as there is `ROOM`.

    Args:
        stimuli: of the database.
        indices: which of them the partition has.
        chain: the transformations.
    """

    def __init__(self, stimuli: Stimuli, indices: Tensor, chain: Sequence[Transformation]) -> None:
        self.indices = indices
        self._stimuli, self._chain = stimuli, chain
        self._all: Tensor | None = None  # of images in memory
        self._some: dict[int, Tensor] = {}  # of images in files, by their place in the partition
        self._room = ROOM

    def read(self, parts: Iterable[Tensor]) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Give each part (places in the partition) with its images: as one batch if they are alike, or one by one."""
        if not isinstance(self._stimuli.images, Tensor):
            yield from self._read_files(parts)
            return
        for where in parts:
            if self._all is None:
                self._all = self._transformed(self._stimuli.images)
            yield where, [self._all.index_select(0, where)]

    def _transformed(self, images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.cat([through(self._chain, images[part], generator) for part in in_parts(self.indices)])

    def _read_files(self, parts: Iterable[Tensor]) -> Iterator[tuple[Tensor, list[Tensor]]]:
        started: deque[tuple[Tensor, list[Future[Tensor]]]] = deque()
        pool = ThreadPoolExecutor(READERS)
        try:
            for where in parts:
                started.append((where, [pool.submit(self._from_file, place) for place in where.tolist()]))
                if len(started) > AHEAD:
                    yield self._taken(*started.popleft())
            while started:
                yield self._taken(*started.popleft())
        finally:  # also when the loop is left early
            pool.shutdown(cancel_futures=True)

    def _from_file(self, place: int) -> Tensor:
        if place in self._some:
            return self._some[place]
        index = int(self.indices[place])
        return through(self._chain, self._stimuli.image(index)[None], torch.Generator().manual_seed(index))

    def _taken(self, where: Tensor, futures: list[Future[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        images = [future.result() for future in futures]
        for place, image in zip(where.tolist(), images, strict=True):
            if place not in self._some and image.nbytes <= self._room:
                self._some[place] = image
                self._room -= image.nbytes
        alike = len({(image.shape, image.dtype) for image in images}) == 1
        return where, [torch.cat(images)] if alike else images
