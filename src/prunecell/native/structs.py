"""How a kernel is called: the structures that it takes, and the arguments of every function."""

import ctypes
import functools
from collections.abc import Sequence
from typing import Any


class Argument(ctypes.Structure):
    """A structure that kernels take by its address."""

    @functools.cached_property
    def address(self) -> int:
        """Where it lies."""
        return ctypes.addressof(self)


class Matrix(Argument):
    """A compressed matrix: the fields of `Matrix` in matrix.h, in its order."""

    _fields_ = (
        ("starts", ctypes.c_void_p),
        ("indices", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("n_entries", ctypes.c_int64),
        ("n_rows", ctypes.c_int32),
        ("n_columns", ctypes.c_int32),
        ("format", ctypes.c_int32),
        ("value_type", ctypes.c_int32),
    )


class Packed(Argument):
    """A packed form of a matrix: the fields of `Packed` in packed/memory.h, in its order."""

    _fields_ = (("at", ctypes.c_void_p), ("n_bytes", ctypes.c_int64))


class Team(Argument):
    """Threads that share a call: the fields of `Team` in team.h, in its order."""

    _fields_ = (
        ("run", ctypes.c_void_p),
        ("own_number", ctypes.c_void_p),
        ("process", ctypes.c_int64),
        ("n_threads", ctypes.c_int64),
    )


class Geometry(Argument):
    """A convolution: the fields of `Geometry` in convolution/geometry.h, in its order."""

    _fields_ = (
        ("groups", ctypes.c_int32),
        ("in_channels", ctypes.c_int32),
        ("out_channels", ctypes.c_int32),
        ("size", ctypes.c_int32 * 3),
        ("out", ctypes.c_int32 * 3),
        ("kernel", ctypes.c_int32 * 3),
        ("stride", ctypes.c_int32 * 3),
        ("padding", ctypes.c_int32 * 3),
        ("dilation", ctypes.c_int32 * 3),
    )


ACTIVATIONS = {
    name: code
    for code, name in enumerate(
        ("relu", "relu6", "leaky_relu", "hardswish", "sigmoid", "silu", "tanh", "gelu", "gelu_tanh"), 1
    )
}
"""Name -> its code in activations.h."""

LINEAR, CONVOLUTION, POOLING = range(3)  # kinds of links, as in packed/links.h


class Pooling(Argument):
    """A pooling: the fields of `Pooling` in packed/pooling.h, in its order."""

    _fields_ = (
        ("geometry", Geometry),
        ("is_mean", ctypes.c_int32),
        ("of_real", ctypes.c_int32),
        ("divisor", ctypes.c_float),
    )


class Link(Argument):
    """A layer of a chain: the fields of `Link` in packed/links.h, in its order."""

    _fields_ = (
        ("form", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("bias_type", ctypes.c_int32),
        ("picture", ctypes.c_void_p),
        ("kind", ctypes.c_int32),
        ("n_columns", ctypes.c_int32),
        ("n_rows", ctypes.c_int32),
        ("activation", ctypes.c_int32),
        ("slope", ctypes.c_float),
    )

    @classmethod
    def linear(
        cls, form: int, epilogue: tuple[int | None, int | None, int], n_columns: int, n_rows: int, activation: int = 0
    ) -> "Link":
        """A linear layer with its scales, its bias and the type of that; an activation without a slope."""
        return cls(form, *epilogue, None, LINEAR, n_columns, n_rows, activation)


class Chain(Argument):
    """Layers one after the other: the fields of `Chain` in packed/links.h, in its order."""

    _fields_ = (
        ("links", ctypes.POINTER(Link)),
        ("n_links", ctypes.c_int64),
        ("n_pictures", ctypes.c_int64),
        ("n_at_once", ctypes.c_int64),
        ("type", ctypes.c_int32),
    )

    @classmethod
    def of(cls, links: Sequence[Link], code: int, n_at_once: int = 1) -> "Chain":
        """The chain of these layers, which it copies.

        Args:
            links: the layers.
            code: of the type of inputs and outputs (`ValueType` in values.h).
            n_at_once: samples of pictures that go through it together.
        """
        array = (Link * len(links))(*links)
        return cls(array, len(links), sum(link.kind != LINEAR for link in links), n_at_once, code)


class Grid(Argument):
    """A tensor of whole numbers under contexts: the fields of `Grid` in contexts.h, in its order."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("planes", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
    )


class Frame(Argument):
    """Where the decoder of a frame is: the fields of `Frame` in literals.h, in its order."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("consumed", "produced", "max_block", "is_over"))


class Latents(Argument):
    """A weight and its latent: the fields of `Latents` in latents.h, in its order."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weight", "latent", "gradient", "inner", "steps")),
        *((name, ctypes.c_void_p) for name in ("rows", "columns", "kernels", "sums")),
        *((name, ctypes.c_int64) for name in ("n_rows", "n_inputs", "n_positions")),
        *((name, ctypes.c_float) for name in ("lam", "low", "high", "growth", "largest")),
        *((name, ctypes.c_int32) for name in ("one_step", "only_growth", "fixed")),
    )


_ADDRESS, _FLAG, _COUNT, _ROW, _BYTES, _CODE = (
    ctypes.c_void_p,
    ctypes.c_int32,
    ctypes.c_int64,
    ctypes.c_int32,
    ctypes.c_int32,
    ctypes.c_int32,
)

# Function -> its arguments; every result is an int32, if there is one. What they mean is written where the function is.
SIGNATURES: dict[str, list[Any]] = {
    "pc_cpu_level": [],
    "pc_what_is_wrong": [_ADDRESS],
    "pc_linear": [
        *[_ADDRESS, _ADDRESS, _CODE, _FLAG],
        *[_CODE, _ADDRESS, _COUNT, _COUNT, _COUNT, _ADDRESS, _ADDRESS],
    ],
    "pc_convolution": [
        *[_ADDRESS, _ADDRESS, _CODE, _FLAG, _ADDRESS],
        *[_CODE, _ADDRESS, _ADDRESS, _COUNT, _ADDRESS],
    ],
    "pc_block_linear": [_ADDRESS, _ROW, _ADDRESS],
    "pc_chain_of_few": [_ADDRESS, _ADDRESS, _COUNT, _COUNT, _COUNT, _ADDRESS, _ADDRESS],
    "pc_chain_of_many": [_ADDRESS, _ADDRESS, _COUNT, _COUNT, _COUNT, _ADDRESS, _ADDRESS],
    "pc_chain_of_pictures": [_ADDRESS, _FLAG, _ADDRESS, _COUNT, _ADDRESS, _ADDRESS],
    "pc_slice": [_ADDRESS, _ADDRESS],
    "pc_has_vnni": [],
    "pc_slice_quads": [_ADDRESS, _FLAG, _ADDRESS],
    "pc_block_quads": [_ADDRESS, _ROW, _FLAG, _ADDRESS],
    "pc_quantised_few": [
        *[_ADDRESS, _ADDRESS, _ADDRESS, _CODE, _FLAG],
        *[_ADDRESS, _COUNT, _COUNT, _ADDRESS, _ADDRESS],
    ],
    "pc_quantised_many": [
        *[_ADDRESS, _ADDRESS, _ADDRESS, _CODE, _FLAG],
        *[_ADDRESS, _COUNT, _COUNT, _ADDRESS, _ADDRESS],
    ],
    "pc_convolution_form": [_ADDRESS, _COUNT, _COUNT],
    "pc_block_convolution": [_ADDRESS, _ADDRESS, _CODE, _ROW, _ADDRESS],
    "pc_blocked_convolution": [
        *[_ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _CODE, _FLAG],
        *[_CODE, _ADDRESS, _ADDRESS, _COUNT, _ADDRESS],
    ],
    "pc_release": [_ADDRESS],
    "pc_fill_pruned": [_ADDRESS, _ADDRESS, _COUNT, _BYTES, _COUNT],
    "pc_take_pruned": [_ADDRESS, _ADDRESS, _COUNT, _BYTES, _ADDRESS, _COUNT],
    "pc_put_pruned": [_ADDRESS, _ADDRESS, _COUNT, _BYTES, _ADDRESS, _COUNT],
    "pc_count_bits": [_ADDRESS, _COUNT, _ADDRESS],
    "pc_census": [_ADDRESS, _COUNT, _BYTES, _COUNT, _COUNT, _ADDRESS, _ADDRESS],
    "pc_prune_up_to": [_ADDRESS, _COUNT, _BYTES, _COUNT, _ADDRESS, _ADDRESS],
    "pc_join_bytes": [_ADDRESS, _COUNT, _BYTES, _FLAG, _ADDRESS],
    "pc_read_literals": [_ADDRESS, _ADDRESS, _COUNT, _ADDRESS, _COUNT, _ADDRESS],
    "pc_split_bytes": [_ADDRESS, _COUNT, _BYTES, _FLAG, _ADDRESS],
    "pc_take_kept": [_ADDRESS, _COUNT, _BYTES, _ADDRESS, _ADDRESS, _ADDRESS],
    "pc_put_kept": [_ADDRESS, _ADDRESS, _COUNT, _BYTES, _ADDRESS, _COUNT],
    "pc_write_gaps": [_ADDRESS, _COUNT, _ADDRESS, _ADDRESS, _ADDRESS],
    "pc_read_gaps": [_ADDRESS, _COUNT, _ADDRESS, _ADDRESS, _ADDRESS],
    "pc_scatter": [_ADDRESS, _ADDRESS, _ADDRESS, _COUNT, _BYTES],
    "pc_context_memory": [_ADDRESS, _ADDRESS],
    "pc_write_contexts": [_ADDRESS, _ADDRESS, _ADDRESS, _COUNT, _ADDRESS, _ADDRESS, _COUNT, _ADDRESS],
    "pc_open_contexts": [_ADDRESS, _ADDRESS, _COUNT, _ADDRESS, _COUNT, _ADDRESS, _ADDRESS],
    "pc_read_contexts": [_ADDRESS, _COUNT, _ADDRESS, _ADDRESS, _ADDRESS],
    "pc_enter_latents": [_ADDRESS, _ADDRESS],
    "pc_leave_latents": [_ADDRESS, _ADDRESS],
    "pc_random_keys": [_ADDRESS, _ADDRESS, _COUNT, _BYTES, _COUNT, _COUNT, _ADDRESS],
}


def declare(found: ctypes.CDLL) -> ctypes.CDLL:
    """Tell ctypes the arguments of every function of a library; the same library."""
    for name, arguments in SIGNATURES.items():
        function = getattr(found, name)
        function.restype, function.argtypes = ctypes.c_int32, arguments
    return found
