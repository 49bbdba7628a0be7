"""n2d2.Tensor: numbers that know what made them. n2d2.Interface: tensors that go into a cell together."""

import numbers
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, NoReturn, Optional, Self

import numpy as np
import torch

from n2d2 import global_variables
from n2d2.calling import CheckedCall, checked
from n2d2.deepnet import DeepNet
from n2d2.error_handler import (
    UndefinedItemError,
    UndefinedParameterError,
    WrongInputType,
    WrongValue,
    check_choice,
)
from n2d2.refusal import Refused
from n2d2.trace import Trace
from n2d2.updating import update
from n2d2.warning import warn_caller
from prunecell.errors import quoted

DATATYPES: dict[str, torch.dtype] = {
    "float": torch.float32,
    "double": torch.float64,
    "half": torch.float16,
    "int": torch.int32,
    "uint": torch.uint32,
    "long": torch.int64,
    "short": torch.int16,
    "char": torch.int8,
    "uchar": torch.uint8,
    "unsigned char": torch.uint8,
    "bool": torch.bool,
    "f": torch.float32,
    "d": torch.float64,
    "h": torch.float16,
    "i": torch.int32,
    "j": torch.uint32,
    "l": torch.int64,
    "s": torch.int16,
    "b": torch.bool,
}


class Tensor(metaclass=CheckedCall):
    """A tensor of N2D2's API: dims in numpy's order, one flat index or all coordinates.

    Args:
        dims: sizes, the batch first ("Numpy"), or last ("N2D2"): [2, 3] prints two rows of three.
        value: what it is filled with; by default zeros.
        cuda: put it on the GPU; without one it stays on the CPU, with a warning.
        datatype: a name of DATATYPES.
        cell: what it is taken to come from: a cell, which then takes part, or a provider.
        dim_format: the order of `dims`.

    Raises:
        WrongValue, WrongInputType: an argument is illegal, or `value` is none of the datatype.

    >>> t = Tensor([2, 3], value=1)
    >>> t[1, 0] = 5
    >>> t[3], t.shape(), t.dims(), t.dimX(), t.dimZ()
    (5.0, [2, 3], [3, 2], 3, 1)
    """

    def __init__(
        self,
        dims: Sequence[int],
        value: Any = None,  # noqa: ANN401 - a number of the datatype
        cuda: bool = False,  # noqa: FBT001, FBT002 - N2D2's signature
        datatype: str = "float",
        cell: Any = None,  # noqa: ANN401 - a cell or a provider
        dim_format: str = "Numpy",
    ) -> None:
        check_choice("datatype", datatype, DATATYPES)
        check_choice("dim_format", dim_format, ("Numpy", "N2D2"))
        if not isinstance(cuda, bool):
            raise WrongInputType(f"cuda={quoted(cuda)} is illegal: it must be True or False")
        sizes = _sizes("dims", dims) if dim_format == "Numpy" else _sizes("dims", dims)[::-1]
        self.values = torch.zeros(sizes, dtype=DATATYPES[datatype])
        if value is not None:
            _check_value(value, datatype, self.values.dtype)
            self.values.fill_(value)
        self.trace = Trace.of(cell)
        self.logits: torch.Tensor | None = None  # what a Softmax with loss leaves for the Target
        if cuda:
            self.cuda()

    @classmethod
    def from_torch(cls, values: torch.Tensor, source: Any = None) -> Self:  # noqa: ANN401 - any provider
        """Wrap a torch tensor, without a copy. `source` is the provider that the data came from."""
        made = cls.__new__(cls)
        made.values, made.trace, made.logits = values, Trace(provider=source), None
        return made

    @classmethod
    def from_numpy(cls, np_array: np.ndarray[Any, Any]) -> Self:
        """A copy of an array, of its own type.

        Raises:
            WrongInputType: it is no array, or its values are no numbers.
        """
        if not isinstance(np_array, np.ndarray):
            raise WrongInputType(
                f"from_numpy takes a numpy array, not a {type(np_array).__name__}: use np.asarray first"
            )
        try:
            return cls.from_torch(torch.from_numpy(np.array(np_array, order="C")))
        except TypeError:
            raise WrongInputType(f"from_numpy takes an array of numbers, not of {np_array.dtype}") from None

    from_N2D2 = Refused("there are no tensors in C++; Tensor.from_numpy and Tensor.from_torch make one")  # noqa: N815 - N2D2's name
    N2D2 = Refused("there is no C++ object behind it; to_numpy() and to_torch() give its values")

    def to_numpy(self, copy: bool = False) -> np.ndarray[Any, Any]:  # noqa: FBT001, FBT002 - N2D2's signature
        """The values as an array; on the CPU it shares memory unless `copy`."""
        array: np.ndarray[Any, Any] = self.values.detach().cpu().numpy()
        return array.copy() if copy else array

    def to_torch(self) -> torch.Tensor:
        """The torch tensor within, gradients and all."""
        return self.values

    def set_values(self, values: Any) -> Self:  # noqa: ANN401 - whatever numpy takes
        """Replace all values by a nested list or an array of the same shape (but for sizes of 1), or by a flat one.

        Raises:
            WrongValue: it has another shape, or rows of different lengths, or holds what is no number.
        """
        try:
            given = torch.as_tensor(np.asarray(values)).to(self.values)
        except (ValueError, TypeError, OverflowError):
            raise WrongValue(
                f"set_values takes a nested list of numbers of shape {self.shape()}, not {quoted(values)}"
            ) from None
        if given.numel() != self.values.numel():
            raise WrongValue(
                f"set_values got {given.numel()} values for a tensor of {self.values.numel()} ({self.shape()})"
            )
        if given.dim() > 1 and self.values.dim() > 1 and given.squeeze().shape != self.values.squeeze().shape:
            raise WrongValue(f"set_values got values of shape {list(given.shape)} for a tensor of {self.shape()}")
        with torch.no_grad():
            self.values.copy_(given.reshape(self.values.shape))
        return self

    # ---- sizes

    def shape(self) -> list[int]:
        """Sizes in numpy's order: the batch first."""
        return list(self.values.shape)

    def dims(self) -> list[int]:
        """Sizes in N2D2's order: the batch last."""
        return self.shape()[::-1]

    def nb_dims(self) -> int:
        """How many dimensions there are."""
        return self.values.dim()

    def _size(self, place: int) -> int:
        """The size of this place in `dims()`; 1 where there are fewer."""
        return self.values.shape[-1 - place] if place < self.values.dim() else 1

    def dimX(self) -> int:  # noqa: N802 - N2D2's names
        """The width: the last size; 1 for a tensor of no dimensions."""
        return self._size(0)

    def dimY(self) -> int:  # noqa: N802
        """The height; 1 where there are fewer than two dimensions."""
        return self._size(1)

    def dimZ(self) -> int:  # noqa: N802
        """The channels; 1 where there are fewer than three dimensions."""
        return self._size(2)

    def dimB(self) -> int:  # noqa: N802
        """The batch; 1 where there are fewer than four dimensions."""
        return self._size(3)

    def data_type(self) -> str:
        """N2D2's name of the type of the values."""
        return next((name for name, dtype in DATATYPES.items() if dtype == self.values.dtype), str(self.values.dtype))

    @checked
    def reshape(self, new_dims: Sequence[int]) -> None:
        """Give the same values other sizes, in place.

        Raises:
            WrongValue: they are not as many.
        """
        sizes = _sizes("new_dims", new_dims)
        if torch.Size(sizes).numel() != self.values.numel():
            raise WrongValue(
                f"new_dims={sizes} is illegal: it is {torch.Size(sizes).numel()} values,"
                f" and there are {self.values.numel()} ({self.shape()})"
            )
        self.values = self.values.reshape(sizes)

    @checked
    def resize(self, new_dims: Sequence[int]) -> None:
        """Give other sizes, in place; the values are not kept."""
        self.values = self.values.new_zeros(_sizes("new_dims", new_dims))

    def copy(self) -> "Tensor":
        """A tensor of the same values, on its own memory and without a trace."""
        return Tensor.from_torch(self.values.detach().clone())

    @checked
    def mean(self) -> float:
        """The mean of all values."""
        return float(self.values.double().mean())

    # ---- places

    def cpu(self) -> Self:
        """Move to the CPU, in place."""
        self.values = self.values.cpu()
        return self

    def cuda(self) -> Self:
        """Move to the GPU that `global_variables.cuda_device` names, in place; without one, stay, with a warning."""
        if global_variables.cuda_available:
            self.values = self.values.to(torch.device("cuda", global_variables.cuda_device))
        else:
            warn_caller("cuda has no effect: torch finds no GPU, so the tensor stays on the CPU")
        return self

    @property
    def is_cuda(self) -> bool:
        """Whether the values are on a GPU."""
        return self.values.is_cuda

    def htod(self) -> Self:
        """Nothing to do: there is one copy of the values, wherever it is."""
        return self

    dtoh = synchronize_dtoh = synchronize_htod = htod

    # ---- values

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - a number of the tensor's type, or a Tensor
        """The number at a flat index, or at all coordinates; of a slice of the flat values a Tensor.

        Raises:
            UndefinedItemError: (IndexError) there is none.
        """
        values, place = self._place(index)
        found = values[place]
        return Tensor.from_torch(found) if isinstance(index, slice) else found.item()

    def __setitem__(self, index: Any, value: Any) -> None:  # noqa: ANN401
        """Set the number at a flat index, at all coordinates, or all of a slice of the flat values."""
        if not self.values.is_contiguous():
            self.values = self.values.contiguous()
        values, place = self._place(index)
        if isinstance(value, numbers.Number | np.generic | torch.Tensor) is False:
            raise WrongInputType(f"{quoted(value)} is illegal as a value: it must be a number")
        with torch.no_grad():
            values[place] = value

    def _place(self, index: Any) -> tuple[torch.Tensor, Any]:  # noqa: ANN401
        """What to index, and the place in it."""
        n, dims = self.values.numel(), self.values.shape
        if isinstance(index, slice):
            return self.values.reshape(-1), index
        if isinstance(index, tuple | list):
            if len(index) != len(dims) or not all(_is_whole(one) for one in index):
                raise UndefinedItemError(
                    f"{quoted(index)} is no place: a tensor of {self.shape()} has {len(dims)} coordinates"
                )
            if not all(-size <= one < size for one, size in zip(index, dims, strict=True)):
                raise UndefinedItemError(f"{quoted(index)} is no place in a tensor of {self.shape()}")
            return self.values, tuple(index)
        if not _is_whole(index):
            raise WrongInputType(
                f"{quoted(index)} is illegal as an index: it must be a whole number, or all coordinates"
            )
        if not -n <= index < n:
            raise UndefinedItemError(f"{quoted(index)} is no place: a tensor of {self.shape()} has {n} values")
        return self.values.reshape(-1), int(index)

    def __len__(self) -> int:
        return self.values.numel()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values.reshape(-1).tolist())

    def __contains__(self, value: float) -> bool:
        return bool((self.values == value).any())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tensor):
            return NotImplemented
        return self.shape() == other.shape() and bool((self.values == other.values.to(self.values.device)).all())

    __hash__ = None  # type: ignore[assignment]  # mutable, compared by value

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> np.ndarray[Any, Any]:  # noqa: ANN401, FBT001, UP045
        return np.array(self.to_numpy(), dtype=dtype) if copy or dtype else self.to_numpy()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tensor":
        """A `copy`, because torch copies no tensor that was computed; it is of the same class."""
        made = type(self).from_torch(self.values.detach().clone())
        memo[id(self)] = made
        return made

    def _no_arithmetic(self, other: object = None) -> Any:  # noqa: ANN401 - nothing, or what numpy makes of it
        """Refuse, as N2D2 has no arithmetic of tensors; that with an array is numpy's."""
        if isinstance(other, np.ndarray):
            return NotImplemented
        raise WrongInputType(
            "an n2d2.Tensor has no arithmetic: t[0] or t.mean() of a loss is a number, to_numpy() and to_torch() give"
            " the values, and an ElemWise cell adds and multiplies the outputs of cells"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _no_arithmetic
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _no_arithmetic
    __neg__ = __pos__ = __abs__ = __float__ = __int__ = __lt__ = __le__ = __gt__ = __ge__ = _no_arithmetic

    def __format__(self, how: str) -> str:
        return str(self._no_arithmetic() if how else self)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        near = get_close_matches(name, dir(type(self)), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; to_numpy() and to_torch() give its values"
        raise UndefinedParameterError(f"an n2d2.Tensor has no {name!r}{hint}")

    def __repr__(self) -> str:
        cell = f", cell={self.cell.get_name()!r}" if hasattr(self.cell, "get_name") else ""
        return f"n2d2.Tensor(\n{self.to_numpy()}, device={self.values.device}, datatype={self.data_type()}{cell})"

    # ---- what made it

    @property
    def cell(self) -> Any:  # noqa: ANN401 - a cell, a provider, or None
        """The cell that made it, or the provider that read it; else None."""
        return self.trace.maker

    def get_tensors(self) -> "list[Tensor]":
        """[itself], as an Interface gives its tensors."""
        return [self]

    def get_deepnet(self) -> DeepNet:
        """The graph of the cells that took part in making it."""
        return DeepNet(links=self.trace.links(), provider=self.trace.provider, source=self)

    def draw_associated_graph(self, path: str) -> None:
        """Draw the graph of the cells that took part, see `DeepNet.draw_graph`."""
        self.get_deepnet().draw_graph(path)

    def is_leaf(self) -> bool:
        """Whether it is a loss, the last of its graph: what a Target returned."""
        return bool(self.trace.cells) and self.values.dim() <= 1 and self.values.numel() == 1

    def detach(self) -> Self:
        """Forget the cells that made it, in place: no gradient goes back to them, and no update reaches them."""
        self.values, self.logits, self.trace = self.values.detach(), None, replace(self.trace, cells=(), before=())
        return self

    def back_propagate(self) -> None:
        """Gradients of this loss (what a Target returned) for all cells that took part."""
        if self.values.numel() != 1 or not self.values.requires_grad:
            raise WrongValue(
                "back_propagate() needs the loss that a Target returned for cells in learn() mode"
                f"; this tensor has shape {self.shape()} and {'a' if self.values.requires_grad else 'no'} graph"
            )
        try:
            self.values.backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if "second time" not in str(error):
                raise
            raise WrongValue("back_propagate() of this loss was called before: compute the loss again") from None

    def update(self) -> None:
        """Step the solvers of all cells that took part, then the clocks of their PruneCells.

        Raises:
            WrongValue: no cell took part.
        """
        if not self.trace.cells:
            raise WrongValue("update() needs the loss that a Target returned: no cell took part in making this tensor")
        epoch_size = getattr(self.trace.provider, "epoch_size", None)
        update(self.trace.cells, self.trace.n_samples, epoch_size)


class Interface(tuple[Tensor, ...]):  # noqa: SLOT001 - it has no attributes of its own
    """Tensors that go into a cell together; it joins their channels, or takes them one by one.

    Args:
        tensors: a list of one n2d2.Tensor at least; of the same width, height and batch.

    Raises:
        WrongInputType: it is no list of tensors.
        WrongValue: it is empty, or the tensors differ.

    >>> both = Interface([Tensor([1, 4, 8, 8]), Tensor([1, 2, 8, 8])])
    >>> both.dims(), len(both)
    ([8, 8, 6, 1], 2)
    """

    def __new__(cls, tensors: Sequence[Tensor]) -> Self:
        """Check them."""
        if not isinstance(tensors, list | tuple) or not all(isinstance(one, Tensor) for one in tensors):
            raise WrongInputType(f"tensors={quoted(tensors)} is illegal: it must be a list of n2d2.Tensors")
        if not tensors:
            raise WrongValue("tensors=[] is illegal: it must be a list of one n2d2.Tensor at least")
        first = tensors[0]
        for what, size in {"width": Tensor.dimX, "height": Tensor.dimY, "batch": Tensor.dimB}.items():
            for one in tensors:
                if size(one) != size(first):
                    raise WrongValue(
                        f"tensors of {first.shape()} and {one.shape()} differ in {what}: it must be the same"
                    )
        return super().__new__(cls, tensors)

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors."""
        return list(self)

    def get_tensors(self) -> list[Tensor]:
        """The tensors."""
        return list(self)

    def get_deepnet(self) -> DeepNet:
        """The graph of the cells that took part in making them."""
        links = {cell: before for one in self for cell, before in one.trace.links().items()}
        provider = next((one.trace.provider for one in self if one.trace.provider is not None), None)
        return DeepNet(links=links, provider=provider, source=self)

    def dimX(self) -> int:  # noqa: N802 - N2D2's names
        """The width of each."""
        return self[0].dimX()

    def dimY(self) -> int:  # noqa: N802
        """The height of each."""
        return self[0].dimY()

    def dimZ(self) -> int:  # noqa: N802
        """The channels of all together."""
        return sum(one.dimZ() for one in self)

    def dimB(self) -> int:  # noqa: N802
        """The batch."""
        return self[0].dimB()

    def dims(self) -> list[int]:
        """[x, y, channels, batch]."""
        return [self.dimX(), self.dimY(), self.dimZ(), self.dimB()]


def _is_whole(index: object) -> bool:
    return isinstance(index, int | np.integer) or (isinstance(index, float) and index.is_integer())


def _sizes(name: str, dims: object) -> list[int]:
    if not isinstance(dims, list | tuple):
        raise WrongInputType(
            f"{name}={quoted(dims)} is illegal: it must be a list of sizes, not a {type(dims).__name__}"
        )
    if not all(isinstance(n, int | np.integer) and n >= 0 for n in dims):
        raise WrongValue(f"{name}={quoted(dims)} is illegal: sizes are whole numbers >= 0")
    return [int(n) for n in dims]


def _check_value(value: object, datatype: str, dtype: torch.dtype) -> None:
    """Refuse to fill with what the datatype cannot hold."""
    if not isinstance(value, bool | int | float | np.generic):
        raise WrongInputType(
            f"value={quoted(value)} is illegal: it must be a number ({datatype!r}), not a {type(value).__name__}"
        )
    if dtype.is_floating_point:
        return
    whole = float(value).is_integer()
    low, high = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    if not whole:
        raise WrongInputType(f"value={value!r} is illegal: datatype {datatype!r} holds whole numbers")
    if not low <= float(value) <= high:
        raise WrongValue(f"value={value!r} is illegal: datatype {datatype!r} holds numbers in [{low}, {high}]")
