"""The joints between the layers of a model that became sparse: what a container may do only if it knows of that.

A joint holds within the forward of a container only: there nobody sees what passes from one layer to the next. So it
is made there, in every call, and the layers stay what they are: called alone, in a slice or with a hook, each does what
its dense twin does.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as nn_module
from torch.overrides import has_torch_function_unary

from prunecell.sparse.chain import chained
from prunecell.sparse.layers import SparseConvolution, SparseLinear, SparseMatrix
from prunecell.sparse.plain import is_replaced, why_replaced
from prunecell.sparse.registry import has_modes


def join_(module: nn.Module) -> None:
    """Tell a container that some of its layers are sparse; what is no container, or more than one, stays as it is."""
    if "forward" in vars(module) or not any(isinstance(part, SparseMatrix) for part in module.modules()):
        return
    if type(module) in _SPARSE_FORM:
        if why_replaced(type(module)):
            return  # what a program put in the place of its forward goes on
        module.__class__ = _SPARSE_FORM[type(module)]
    elif isinstance(module, nn.TransformerEncoder):
        module.use_nested_tensor = False  # sparse layers take no nested tensors
    elif isinstance(module, nn.TransformerEncoderLayer):
        module.activation_relu_or_gelu = 0  # see SparseTransformerEncoderLayer


# ---- nn.Sequential ---------------------------------------------------------------------------------------------------


# Torch has no public name for it. Where another version lacks it, nothing is joined, which is slower and always right.
_has_global_hooks = getattr(nn_module, "_has_any_global_hook", lambda: True)


def _computing() -> tuple[object, ...]:
    """What computes a ReLU between two layers of a dense container; a program may put something else in its place."""
    return nn.Sequential.forward, nn.ReLU.forward, F.relu, torch.relu, torch.relu_


def _calling() -> tuple[object, ...]:
    relu: Any = nn.ReLU  # it has these of nn.Module, as all layers do
    return relu.__call__, relu._call_impl  # noqa: SLF001


_IS_CHANGED = bool(why_replaced(nn.ReLU)) or is_replaced(F.relu, F.__name__)  # before this was imported
_COMPUTING, _CALLING = _computing(), _calling()


def _may_join() -> bool:
    """Whether nobody sees a difference: no program or mode of torch has put something in the place of torch's own."""
    if _IS_CHANGED or _computing() != _COMPUTING or _has_global_hooks():
        return False
    return torch.compiler.is_compiling() or (_calling() == _CALLING and not has_modes())  # a compiler has its own


def _computes_otherwise(x: object) -> bool:
    """Whether a subclass of Tensor decides what is computed of it; modes, of which torch says the same, are known."""
    return has_torch_function_unary(x) and not has_modes()


class SparseSequential(nn.Sequential):
    """An nn.Sequential in which some layers are sparse.

    A ReLU is done within the sparse layer before it, and sparse linear layers one after the other are one call of the
    kernels. What is hooked, wrapped or compiled on its own is called as any module is, and all are where a program or
    a mode of torch changes what torch computes.
    """

    def forward(self, input: Any) -> Any:  # noqa: A002, ANN401 - as nn.Sequential has it
        """As nn.Sequential: each module takes what the one before it gives."""
        if not _may_join():
            forward: Any = super().forward
            return forward(input)
        x, modules = input, list(self._modules.values())
        kinds = [*map(_kind_of_bare, modules), None, None]  # and of what comes after the last
        n_done = 0
        while n_done < len(modules):
            module: Any = modules[n_done]
            kind = None if _computes_otherwise(x) else kinds[n_done]
            relu = kind in _SPARSE and kinds[n_done + 1] is nn.ReLU
            if kind is SparseLinear and kinds[n_done + 1 + relu] is SparseLinear:
                layers, relus = _linear_layers(modules, kinds, n_done)
                if (y := chained(layers, relus, x)) is not None:
                    x, n_done = y, n_done + len(layers) + sum(relus)
                    continue
            x = module.computed(x, relu=relu) if kind in _SPARSE else module(x)
            n_done += 1 + relu
        return x


def _linear_layers(
    modules: list[Any], kinds: list[type[nn.Module] | None], begin: int
) -> tuple[tuple[SparseLinear, ...], tuple[bool, ...]]:
    """The sparse linear layers from `begin` on with nothing but ReLUs between them; whether one comes after each."""
    layers, relus = [], []
    while kinds[begin] is SparseLinear:
        layers.append(modules[begin])
        relus.append(kinds[begin + 1] is nn.ReLU)
        begin += 1 + relus[-1]
    return tuple(layers), tuple(relus)


_SPARSE = {SparseLinear, SparseConvolution}
_METHODS = {"forward", "_call_impl"}


def _kind_of_bare(module: nn.Module) -> type[nn.Module] | None:
    """The class of a sparse layer or a ReLU of which a call is nothing but the forward of its class; else None."""
    kind = type(module)
    if kind is not nn.ReLU and kind not in _SPARSE:
        return None
    is_more = (
        module._forward_hooks  # noqa: SLF001 - torch has no public names for these
        or module._forward_pre_hooks  # noqa: SLF001
        or module._backward_hooks  # noqa: SLF001
        or module._backward_pre_hooks  # noqa: SLF001
        or module._compiled_call_impl is not None  # noqa: SLF001
        or not _METHODS.isdisjoint(module.__dict__)
    )
    return None if is_more else kind


# ---- nn.TransformerEncoder and its layers --------------------------------------------------------------------------


class SparseTransformerEncoder(nn.TransformerEncoder):
    """An nn.TransformerEncoder in which some layers are sparse.

    In evaluation the dense one hands nested tensors from layer to layer, which sparse layers do not take. Here they get
    padded ones. What is padding comes out as the dense one gives it.
    """

    @property
    def use_nested_tensor(self) -> bool:
        """Not here."""
        return False

    @use_nested_tensor.setter
    def use_nested_tensor(self, value: bool) -> None:
        self.__dict__["use_nested_tensor"] = value

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,  # noqa: FBT001 - as nn.TransformerEncoder has it
    ) -> Tensor:
        """As nn.TransformerEncoder."""
        y = super().forward(src, mask, src_key_padding_mask, is_causal)
        if src_key_padding_mask is None or mask is not None or not self._would_nest(src):
            return y
        padding = src_key_padding_mask.bool()
        if self.mask_check and (torch.compiler.is_compiling() or (padding[:, :-1] & ~padding[:, 1:]).any()):
            return y
        empty = torch.zeros_like(src)
        return torch.where(padding.unsqueeze(-1), empty if self.norm is None else self.norm(empty), y)

    def _would_nest(self, src: Tensor) -> bool:
        """Whether the dense encoder would make a nested tensor of an input with padding; the padding becomes zeros."""
        first = self.layers[0]
        learns = torch.is_grad_enabled() and (src.requires_grad or any(p.requires_grad for p in first.parameters()))
        return bool(
            self.__dict__["use_nested_tensor"]
            and torch.backends.mha.get_fastpath_enabled()
            and src.dim() == 3  # noqa: PLR2004 - batch, time, features
            and not (first.training or learns or torch.is_autocast_enabled())
        )


class SparseTransformerEncoderLayer(nn.TransformerEncoderLayer):
    """An nn.TransformerEncoderLayer in which some layers are sparse.

    In evaluation the dense one goes around its modules where the activation is one that it knows, and computes with
    their dense weights. Here it calls them.
    """

    @property
    def activation_relu_or_gelu(self) -> int:
        """None of these, as far as going around is concerned."""
        return 0

    @activation_relu_or_gelu.setter
    def activation_relu_or_gelu(self, value: int) -> None:
        self.__dict__["activation_relu_or_gelu"] = value


_SPARSE_FORM: dict[type[nn.Module], type[nn.Module]] = {
    nn.Sequential: SparseSequential,
    nn.TransformerEncoder: SparseTransformerEncoder,
    nn.TransformerEncoderLayer: SparseTransformerEncoderLayer,
}
