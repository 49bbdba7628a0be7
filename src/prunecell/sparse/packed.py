"""Packed forms of a matrix: copies that are private to the kernels, ordered as these read them fastest.

    sliced    for a few samples: a row of a slice in every lane (native/packed/sliced.h)
    blocked   for many: blocks of columns whose inputs stay in the first-level cache (native/packed/blocked.h); for
              convolutions of another form one for each way in which panels are laid out (native/packed/forms.h)
    quads     of int8 values, for quantised inputs, in slices and in blocks (native/packed/quads.h)

A form is made at the first call that needs it. Nobody else writes into it, so what it says needs no check. It is made
anew when one of the parts of the matrix is another tensor, lies elsewhere, or was changed in a way that torch counts;
and it goes when one of them goes.
"""

import ctypes
import weakref
from collections.abc import Callable, Hashable

from torch import Tensor

from prunecell import native
from prunecell.sparse.checked import Checked

MOST_FORMS = 4  # of one matrix at the same time


def check_outcome(outcome: int) -> None:
    """Raise a MemoryError where a kernel that reads a packed form had none: nothing else can be wrong with it."""
    if outcome:
        raise MemoryError("no memory to compute with a sparse matrix")


class Form:
    """One packed form, in memory of its own.

    Attributes:
        address: of what a kernel reads.
        n_bytes: of memory.
    """

    __slots__ = ("__weakref__", "address", "n_bytes")

    def __init__(self, packed: native.Packed, release: Callable[[int], object]) -> None:
        self.address: int = packed.at
        self.n_bytes: int = packed.n_bytes
        weakref.finalize(self, release, self.address).atexit = False


class Forms:
    """The packed forms of one matrix in one state.

    Args:
        key: which matrix and state.
        library: that packs, and alone reads what it packed.
        ids: of the tensors of the matrix.
    """

    def __init__(self, key: Hashable, library: ctypes.CDLL, ids: tuple[int, ...]) -> None:
        self.key, self.ids, self._library = key, ids, library
        self._forms: dict[str, tuple[Hashable, Form | None]] = {}

    def sliced(self, matrix: Checked) -> Form | None:
        """For a few samples; None where the matrix cannot be packed, because it is damaged or out of order."""
        return self._form("sliced", None, lambda to: self._library.pc_slice(matrix.address, to))

    def blocked(self, matrix: Checked, rows: int) -> Form | None:
        """For many samples, in blocks of at most so many rows; None as above."""
        return self._form("blocked", rows, lambda to: self._library.pc_block_linear(matrix.address, rows, to))

    def of_convolution(self, matrix: Checked, geometry: native.Geometry, form: int, rows: int) -> Form | None:
        """For a convolution whose panels have this form, as above; some forms at a time.

        Where its panels have an input depends on more than the form: so another kernel, stride or dilation, as of a
        layer with the same weight, needs a form of its own.
        """
        g = geometry
        name = f"convolution {form} {g.groups} {[*g.kernel]} {[*g.stride]} {[*g.dilation]}"
        others = [other for other in list(self._forms) if other != name]  # a list at once: other threads change it
        for oldest in others[: 1 - MOST_FORMS]:
            self._forms.pop(oldest, None)
        pack = self._library.pc_block_convolution
        return self._form(name, rows, lambda to: pack(matrix.address, geometry.address, form, rows, to))

    def sliced_quads(self, matrix: Checked) -> Form | None:
        """Of a matrix with int8 values, for a few quantised samples; None as above."""
        vnni = native.has_vnni(self._library)
        return self._form("sliced quads", vnni, lambda to: self._library.pc_slice_quads(matrix.address, vnni, to))

    def blocked_quads(self, matrix: Checked, rows: int) -> Form | None:
        """The same for many, in blocks of at most so many rows."""
        pack, vnni = self._library.pc_block_quads, native.has_vnni(self._library)
        return self._form("blocked quads", (rows, vnni), lambda to: pack(matrix.address, rows, vnni, to))

    @property
    def n_bytes(self) -> int:
        """Of all that were made."""
        return sum(form.n_bytes for _, form in list(self._forms.values()) if form is not None)

    def _form(self, name: str, wish: Hashable, pack: Callable[[int], int]) -> Form | None:
        known = self._forms.get(name)
        if known is not None and known[0] == wish:
            return known[1]
        packed = native.Packed()
        outcome = pack(packed.address)
        if outcome < 0:
            raise MemoryError("no memory to pack a sparse matrix")
        form = Form(packed, self._library.pc_release) if outcome == 0 else None
        self._forms[name] = wish, form
        return form


_forms: dict[int, Forms] = {}  # id of the values of a matrix ->


def forms_of(matrix: Checked, tensors: tuple[Tensor | None, ...], library: ctypes.CDLL) -> Forms | None:
    """The packed forms of a matrix; None where it is read as it is stored.

    Args:
        matrix: as `checked` gave it for these.
        tensors: its starts, indices, values and scales.
        library: that is to read them.
    """
    if matrix.key is None:
        return None
    try:
        versions = tuple(None if t is None else t._version for t in tensors)  # noqa: SLF001 - as autograd asks for it
    except RuntimeError:  # made under inference mode, where torch does not count changes
        return None
    number, key = id(tensors[2]), (matrix.key, versions, id(library))
    known = _forms.get(number)
    if known is not None and known.key == key:
        return known
    found = _forms[number] = Forms(key, library, tuple(map(id, tensors)))
    if known is None or known.ids != found.ids:
        for tensor in tensors:
            if tensor is not None:
                weakref.finalize(tensor, _forms.pop, number, None).atexit = False
    return found
