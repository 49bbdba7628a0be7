"""The dense weight of a sparse layer, as programs read it: `layer.weight.dtype`, `layer.weight.t()`, `clone()`.

A sparse layer has no dense weight, so one is made where its elements are asked for, and only then: many models look at
`weight.dtype` in every call. What is written to such a weight would be lost, so writing is an error. That holds for its
views too; everything that is computed from it is an ordinary tensor.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, Self

import numpy as np
import torch
from torch import Tensor, nn

from prunecell.errors import OptionError
from prunecell.sparse.inputs import check_one_device
from prunecell.sparse.matrix import N_PARTS, N_TENSORS, decompress, matrix_of
from prunecell.sparse.registry import MATRIX, register

_PROPERTIES = (
    *("shape", "dtype", "layout", "ndim", "itemsize", "nbytes", "requires_grad", "is_leaf", "grad"),
    *("grad_fn", "is_sparse", "is_quantized", "is_nested"),
)
_METHODS = ("size", "dim", "numel", "nelement", "element_size", "is_floating_point", "is_complex", "is_signed")
_TOLD_WITHOUT_ELEMENTS = frozenset(
    [
        *(getattr(Tensor, name).__get__ for name in _PROPERTIES),
        *(getattr(Tensor, name) for name in (*_METHODS, "__len__")),
        *(torch.is_floating_point, torch.is_complex, torch.numel),
    ]
)
_OF_ITS_DEVICE = frozenset(
    [Tensor.get_device, *(getattr(Tensor, name).__get__ for name in ("device", "is_cpu", "is_cuda", "is_meta"))]
)


class DenseWeight(Tensor):
    """A dense weight that can be read, and cannot be written.

    `nn.Parameter(weight)` is an ordinary parameter with a copy of it.

    >>> weight = DenseWeight.of(lambda: torch.eye(2), (2, 2), torch.float32, torch.device("cpu"))
    >>> weight.sum()
    tensor(2.)
    >>> weight[0].zero_()
    Traceback (most recent call last):
    prunecell.errors.OptionError: zero_ would write to the weight of a sparse layer, ...
    """

    elements: Callable[[], Tensor]
    its_device: torch.device
    was_detached = False
    owns_its_elements = False

    @classmethod
    def of(cls, make: Callable[[], Tensor], shape: Iterable[int], dtype: torch.dtype, device: torch.device) -> Self:
        """The weight of this shape, dtype and device whose elements `make` makes anew whenever they are asked for."""
        shell = torch.empty(torch.Size(shape), dtype=dtype, device="meta").as_subclass(cls)  # so nobody reads it as is
        shell.elements, shell.its_device = make, device
        return shell

    def __setattr__(self, name: str, value: object) -> None:
        """Become a real parameter where `nn.Parameter(weight)` marks this as one."""
        if name == "_is_param" and self.owns_its_elements:
            self.__class__ = nn.Parameter  # type: ignore[assignment] # both are plain classes over a tensor
        else:
            super().__setattr__(name, value)

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> np.ndarray[Any, Any]:  # noqa: FBT001
        """Its elements as numpy takes them: a copy that can be written where numpy asks for one."""
        array = self.numpy()
        return array.astype(array.dtype if dtype is None else dtype, copy=bool(copy))

    def set_(self, *_: object, **__: object) -> NoReturn:
        """Refuse it; torch does not ask `__torch_function__` about this one."""
        _refuse("set_")

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - torch's
        """Make the elements, compute with them, and see to it that nothing was written to them."""
        kwargs = kwargs or {}
        first = args[0] if args else None
        if func in _TOLD_WITHOUT_ELEMENTS or (isinstance(first, cls) and first.owns_its_elements):
            with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - torch documents it for this use
                return func(*args, **kwargs)
        if isinstance(first, cls):
            if func in _OF_ITS_DEVICE:
                return func(torch.empty(0, device=first.its_device))
            if func is Tensor.__iter__:
                return iter(first.unbind())
            if func is Tensor.requires_grad_:
                return first.with_gradient(*args[1:], **kwargs)
            _refuse_write(func, args[1:])
        made = _Made()
        result = func(*made.of_all(args), **made.of_all(kwargs))
        if made.is_written:
            _refuse(func.__name__)
        return made.kept_from_writing(result, detached=func is Tensor.detach)

    def with_gradient(self, requires_grad: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's
        """What `requires_grad_` gives: itself, if nothing changes; a copy only on the way to `nn.Parameter`."""
        if self.was_detached:  # nn.Parameter(weight) calls detach() and then this
            copy = self.clone().as_subclass(type(self))
            copy.owns_its_elements = True
            copy.requires_grad_(requires_grad)
            return copy
        if requires_grad:
            _refuse("requires_grad_")
        return self


def _refuse_write(func: Callable[..., Any], values: tuple[Any, ...]) -> None:
    """Refuse methods that write to their tensor, and attributes of it that are set.

    Raises:
        OptionError: it would write.
    """
    name = func.__name__
    if name == "__set__":
        if values[0] is None or values[0] is False:  # no gradient is what it has
            return
        _refuse(f"setting its attribute {func.__self__.__name__}")  # type: ignore[attr-defined] # of a descriptor
    if name in {"__setitem__", "__dlpack__"} or (name.endswith("_") and not name.startswith("_")):
        _refuse(name)


def _refuse(what: str) -> NoReturn:
    raise OptionError(  # no TypeError: `weight += 1` would take it as a request to compute `weight + 1` instead
        f"{what} would write to the weight of a sparse layer, where it would be lost: the dense weight is made anew at "
        "each reading. Change weights, or merge adapters into them, before compact_; or take a copy, weight.clone()"
    )


def refuse_to_set(name: str) -> NoReturn:
    """Refuse `layer.weight = ...`.

    Raises:
        OptionError: always.
    """
    raise OptionError(
        f"{name} of a sparse layer cannot be set: set it in the dense model, before compact_, or put a dense layer in "
        "the place of this one"
    )


class _Made:
    """The elements of the dense weights among the arguments of one call."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Tensor, int]] = {}

    def of_all(self, value: Any) -> Any:  # noqa: ANN401 - arguments of any function
        """The arguments with elements in place of dense weights."""
        if isinstance(value, DenseWeight) and not value.owns_its_elements:
            if id(value) not in self._made:
                with torch.inference_mode(mode=False), torch.no_grad():  # only then torch counts what is written
                    elements = value.elements()
                    self._made[id(value)] = elements, _version(elements)
            return self._made[id(value)][0]
        return _mapped(self.of_all, value)

    @property
    def is_written(self) -> bool:
        """Whether the function wrote to one of them."""
        return any(_version(elements) != version for elements, version in self._made.values())

    def kept_from_writing(self, result: Any, *, detached: bool) -> Any:  # noqa: ANN401 - of any function
        """The result of the function; what shares memory with the elements cannot be written either."""
        if isinstance(result, np.ndarray):
            result.setflags(write=False)
        elif isinstance(result, Tensor) and any(_share_memory(result, elements) for elements, _ in self._made.values()):
            view = DenseWeight.of(lambda: result, result.shape, result.dtype, result.device)
            view.was_detached = detached
            return view
        return _mapped(lambda part: self.kept_from_writing(part, detached=detached), result)


def _version(tensor: Tensor) -> int:
    """How often a tensor, or a view of it, was written to."""
    return tensor._version  # noqa: SLF001 - it has no public name


def _share_memory(a: Tensor, b: Tensor) -> bool:
    try:
        addresses = a.untyped_storage()._cdata, b.untyped_storage()._cdata  # noqa: SLF001 - on meta there is no other
    except RuntimeError:  # one has no memory of its own: it is sparse, or is seen by a transform
        return False
    return bool(addresses[0] == addresses[1])


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:  # noqa: ANN401 - of any function
    """A plain list, tuple or dict with its elements changed; other values as they are."""
    if type(value) in {list, tuple}:
        return type(value)(change(element) for element in value)
    if type(value) is dict:
        return {key: change(element) for key, element in value.items()}
    return value


# ---- the operator, by which compiled and exported programs have a dense weight ---------------------------------------


def _dense(*parts: Any) -> Tensor:  # noqa: ANN401 - the parts of a matrix
    return decompress(matrix_of(*parts))


def _dense_fake(*parts: Any) -> Tensor:  # noqa: ANN401 - the parts of a matrix
    starts = check_one_device(parts[:N_TENSORS])
    return starts.new_empty(starts.shape[0] - 1, parts[N_PARTS - 2], dtype=torch.float32)


dense_matrix = register(f"dense_matrix({MATRIX}) -> Tensor", twin=_dense, fake=_dense_fake)
