"""The sizes of a kernel or a window, with its steps, padding and dilation: whether they fit what comes in."""

from n2d2.ini import Section
from n2d2.network.parts import Inputs, Options, Part


def kernel(section: Section, inputs: Inputs) -> Options:
    """`KernelDims`; see `_sizes`."""
    return {"kernel_dims": _sizes_for(section, "Kernel", inputs)}


def window(section: Section, inputs: Inputs) -> Options:
    """`PoolDims`; see `_sizes`."""
    return {"pool_dims": _sizes_for(section, "Pool", inputs)}


def _sizes_for(section: Section, of: str, inputs: Inputs) -> list[int]:
    """The sizes of a kernel or a window, one for each side of the input."""
    sizes, n_sides = _sizes(section, of), len(inputs.shapes[0]) - 1
    if n_sides and len(sizes) != n_sides:
        came = " x ".join(map(str, inputs.shapes[0]))
        legal = f"it must be {n_sides} whole number{'s' * (n_sides > 1)} >= 1, x first, for the input is {came}"
        raise section.error(_size_key(section, of), legal)
    return sizes


def fits(of: str) -> Part:
    """Refuse a kernel or window (`of`) that reaches over the padded input."""

    def read(section: Section, inputs: Inputs) -> Options:
        sizes = _sizes(section, of)
        padding = _steps(section, "Padding", len(sizes))
        dilation = _steps(section, "Dilation", len(sizes)) if of == "Kernel" else [1] * len(sizes)
        spans = [step * (size - 1) + 1 for step, size in zip(dilation, sizes, strict=True)]
        sides = inputs.shapes[0][:0:-1] or [1] * len(sizes)  # x first
        padded = [side + 2 * pad for side, pad in zip(sides, padding, strict=True)]
        if any(span > side for span, side in zip(spans, padded, strict=True)):
            span, side = (" x ".join(map(str, one)) for one in (spans, padded))
            raise section.error(_size_key(section, of), f"it spans {span}, and the input with its padding is {side}")
        if of == "Pool" and any(2 * pad > size for pad, size in zip(padding, sizes, strict=True)):
            raise section.error(
                _first(section, "Padding", "PaddingX", "PaddingDims"), "it must be half of the window at most"
            )
        return {}

    return read


def _size_key(section: Section, of: str) -> str:
    return _first(section, *(f"{of}{what}" for what in ("Size", "Width", "Height", "Depth", "Dims")))


def _first(section: Section, *keys: str) -> str:
    """The first of the keys that is given, else the last."""
    return next((key for key in keys if key in section), keys[-1])


def geometry(of: str, **keys: str) -> Part:
    """Read what belongs to a kernel or a window (`of`): argument -> "Stride", "Padding", "Dilation", "SubSample"."""

    def read(section: Section, _: Inputs) -> Options:
        n_dims = len(_sizes(section, of))
        return {name: _steps(section, what, n_dims) for name, what in keys.items()}

    return read


def _sizes(section: Section, what: str) -> list[int]:
    """`KernelDims=5 5`, or `KernelSize=5` of two dimensions, or `KernelWidth`, `KernelHeight` and `KernelDepth`."""
    if f"{what}Size" in section:
        return [section.get_int(f"{what}Size", low=1)] * 2
    sides = [f"{what}{side}" for side in ("Width", "Height", "Depth")]
    given = [side for side in sides if side in section]
    if given:
        return [section.get_int(side, low=1) for side in sides[: max(2, len(given))]]
    return section.get_ints(f"{what}Dims", low=1)


def _steps(section: Section, what: str, n_dims: int) -> list[int]:
    """`StrideDims=2 2`, or `Stride=2` of all dimensions, or `StrideX`, `StrideY` and `StrideZ`."""
    neutral = 0 if what == "Padding" else 1
    if what in section:
        return [section.get_int(what, low=neutral)] * n_dims
    if (key := f"{what}Dims") in section:
        steps = section.get_ints(key, low=neutral)
        if len(steps) != n_dims:
            raise section.error(key, f"it must be {n_dims} whole numbers, x first")
        return steps
    return [section.get_int(f"{what}{axis}", neutral, low=neutral) for axis in "XYZ"[:n_dims]]
