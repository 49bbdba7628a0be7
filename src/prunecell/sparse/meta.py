"""Building a model whose weights are in a file: its parameters on the meta device, everything else for real."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook


@contextmanager
def meta_weights() -> Iterator[None]:
    """Build a model for `compact_(model, path)` within it: its parameters take no memory and are not initialised.

    Parameters go to the meta device as they are registered; tied ones stay tied. Buffers and attributes are computed as
    usual, so that those which no file holds are there (rotary frequencies, position ids). `torch.device("meta")` puts
    them on the meta device too. Modules that other threads build meanwhile are built in the same way.

    >>> with meta_weights():
    ...     net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    >>> net[0].weight.is_meta, net[1].running_var.is_meta
    (True, False)
    """
    known: dict[int, tuple[weakref.ref[Tensor], nn.Parameter]] = {}

    def to_meta(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta or type(parameter) is not nn.Parameter:
            return None
        before, meta = known.get(id(parameter), (None, None))
        if meta is None or before is None or before() is not parameter:
            meta = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
            vars(meta).update(vars(parameter))
            known[id(parameter)] = weakref.ref(parameter), meta
        return meta

    handle = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type] # torch's hint lacks the result
    try:
        yield
    finally:
        handle.remove()
