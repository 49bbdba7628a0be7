"""n2d2.Tensor: numbers, and the trace of what made them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
import torch

from n2d2 import global_variables
from n2d2.error_handler import WrongInputType, WrongValue, check_choice
from n2d2.updating import Updatable, update

DATATYPES: dict[str, torch.dtype] = {
    "float": torch.float32,
    "double": torch.float64,
    "half": torch.float16,
    "int": torch.int32,
    "long": torch.int64,
    "short": torch.int16,
    "char": torch.int8,
    "unsigned char": torch.uint8,
    "bool": torch.bool,
    "f": torch.float32,
    "d": torch.float64,
    "h": torch.float16,
    "i": torch.int32,
    "b": torch.bool,
}


@dataclass(frozen=True)
class Trace:
    """What took part in making a tensor: the provider of the data, the samples, and the cells in their order."""

    provider: Any = None
    n_samples: int = 1
    cells: tuple[Updatable, ...] = ()

    @classmethod
    def after(cls, cell: Updatable, before: "Sequence[Trace]", n_samples: int) -> "Trace":
        """What took part after a cell made one tensor of those that came before."""
        provider = next((trace.provider for trace in before if trace.provider is not None), None)
        cells = [one for trace in before for one in trace.cells]
        return cls(provider, n_samples, tuple(dict.fromkeys([*cells, cell])))


class Tensor:
    """A tensor of N2D2's API: dims in numpy's order, one flat index or all coordinates.

    Args:
        dims: sizes, the batch first ("Numpy"), or last ("N2D2"): [2, 3] prints two rows of three.
        value: what it is filled with.
        datatype: a name of DATATYPES. cuda: put it on the GPU.

    >>> t = Tensor([2, 3], value=1)
    >>> t[1, 0] = 5
    >>> t[3], t.shape(), t.dims()
    (5.0, [2, 3], [3, 2])
    """

    def __init__(
        self,
        dims: Sequence[int],
        value: float = 0,
        *,
        cuda: bool = False,
        datatype: str = "float",
        dim_format: str = "Numpy",
    ) -> None:
        check_choice("datatype", datatype, DATATYPES)
        check_choice("dim_format", dim_format, ("Numpy", "N2D2"))
        if not isinstance(dims, list | tuple):
            raise WrongInputType(f"dims={dims!r} is illegal: it must be a list of sizes, not a {type(dims).__name__}")
        if not all(isinstance(n, int | np.integer) and n >= 0 for n in dims):
            raise WrongValue(f"dims={dims!r} is illegal: sizes are whole numbers >= 0")
        sizes = list(dims) if dim_format == "Numpy" else list(reversed(dims))
        self.values = torch.full([int(n) for n in sizes], value, dtype=DATATYPES[datatype])
        self.trace = Trace()
        self.logits: torch.Tensor | None = None  # what a Softmax with loss leaves for the Target
        if cuda:
            self.cuda()

    @classmethod
    def from_torch(cls, values: torch.Tensor, source: Any = None) -> "Tensor":  # noqa: ANN401 - any provider
        """Wrap a torch tensor, without a copy. `source` is the provider that the data came from."""
        made = cls.__new__(cls)
        made.values, made.trace, made.logits = values, Trace(provider=source), None
        return made

    @classmethod
    def from_numpy(cls, array: np.ndarray[Any, Any]) -> "Tensor":
        """A copy of an array, of its own type."""
        if not isinstance(array, np.ndarray):
            raise WrongInputType(f"from_numpy takes a numpy array, not a {type(array).__name__}: use np.asarray first")
        return cls.from_torch(torch.from_numpy(np.array(array, order="C")))

    def to_numpy(self, copy: bool = False) -> np.ndarray[Any, Any]:  # noqa: FBT001, FBT002 - N2D2's signature
        """The values as an array; on the CPU it shares memory unless `copy`."""
        array: np.ndarray[Any, Any] = self.values.detach().cpu().numpy()
        return array.copy() if copy else array

    def to_torch(self) -> torch.Tensor:
        """The torch tensor within, gradients and all."""
        return self.values

    def set_values(self, values: Any) -> "Tensor":  # noqa: ANN401 - whatever numpy takes
        """Replace all values by a nested list or an array of the same shape, or of the same size if flat."""
        given = torch.as_tensor(np.asarray(values), dtype=self.values.dtype)
        if given.numel() != self.values.numel():
            raise WrongValue(
                f"set_values got {given.numel()} values for a tensor of {self.values.numel()} ({self.shape()})"
            )
        with torch.no_grad():
            self.values.copy_(given.reshape(self.values.shape))
        return self

    def shape(self) -> list[int]:
        """Sizes in numpy's order: the batch first."""
        return list(self.values.shape)

    def dims(self) -> list[int]:
        """Sizes in N2D2's order: the batch last."""
        return self.shape()[::-1]

    def nb_dims(self) -> int:
        """How many dimensions there are."""
        return self.values.dim()

    dimB = property(lambda self: self.shape()[0])  # noqa: N815 - N2D2's names
    dimZ = property(lambda self: self.shape()[1])  # noqa: N815
    dimY = property(lambda self: self.shape()[2])  # noqa: N815
    dimX = property(lambda self: self.shape()[3])  # noqa: N815

    def data_type(self) -> str:
        """N2D2's name of the type of the values."""
        return next((name for name, dtype in DATATYPES.items() if dtype == self.values.dtype), str(self.values.dtype))

    def reshape(self, new_dims: Sequence[int]) -> None:
        """Give the same values other sizes, in place."""
        self.values = self.values.reshape(list(new_dims))

    def resize(self, new_dims: Sequence[int]) -> None:
        """Give other sizes, in place; the values are not kept."""
        self.values = torch.zeros(list(new_dims), dtype=self.values.dtype, device=self.values.device)

    def copy(self) -> "Tensor":
        """A tensor of the same values, on its own memory and without a trace."""
        return Tensor.from_torch(self.values.detach().clone())

    def detach(self) -> None:
        """Forget the cells that made it, in place: no gradient goes back to them, and no update reaches them."""
        self.values, self.logits, self.trace = self.values.detach(), None, replace(self.trace, cells=())

    def mean(self) -> float:
        """The mean of all values."""
        return float(self.values.double().mean())

    def cpu(self) -> None:
        """Move to the CPU, in place."""
        self.values = self.values.cpu()

    def cuda(self) -> None:
        """Move to the GPU that `global_variables.cuda_device` names, in place."""
        self.values = self.values.to(torch.device("cuda", global_variables.cuda_device))

    @property
    def is_cuda(self) -> bool:
        """Whether the values are on a GPU."""
        return self.values.is_cuda

    def htod(self) -> None:
        """Nothing to do: there is one copy of the values, wherever it is."""

    dtoh = synchronize_dtoh = synchronize_htod = htod

    def __getitem__(self, index: int | tuple[int, ...]) -> Any:  # noqa: ANN401 - a number of the tensor's type
        return (self.values if isinstance(index, tuple) else self.values.reshape(-1))[index].item()

    def __setitem__(self, index: int | slice | tuple[int, ...], value: float) -> None:
        with torch.no_grad():
            (self.values if isinstance(index, tuple) else self.values.view(-1))[index] = value

    def __len__(self) -> int:
        return self.values.numel()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values.reshape(-1).tolist())

    def __contains__(self, value: float) -> bool:
        return bool((self.values == value).any())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tensor) and torch.equal(self.values, other.values)

    __hash__ = None  # type: ignore[assignment]  # mutable, compared by value

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> np.ndarray[Any, Any]:  # noqa: ANN401, FBT001, UP045
        return np.array(self.to_numpy(), dtype=dtype) if copy or dtype else self.to_numpy()

    def __repr__(self) -> str:
        return f"n2d2.Tensor(\n{self.to_numpy()}, device={self.values.device}, datatype={self.data_type()})"

    def back_propagate(self) -> None:
        """Gradients of this loss (what a Target returned) for all cells that took part."""
        if self.values.numel() != 1 or not self.values.requires_grad:
            raise WrongValue(
                "back_propagate() needs the loss that a Target returned for cells in learn() mode"
                f"; this tensor has shape {self.shape()} and {'a' if self.values.requires_grad else 'no'} graph"
            )
        self.values.backward()  # type: ignore[no-untyped-call]

    def update(self) -> None:
        """Step the solvers of all cells that took part, then the clocks of their PruneCells."""
        epoch_size = getattr(self.trace.provider, "epoch_size", None)
        update(self.trace.cells, self.trace.n_samples, epoch_size)
