"""The joints between the layers of a model that became sparse: what a container may do only if it knows of that.

A joint holds within the forward of a container only: there nobody sees what passes from one layer to the next. So it
is made there, in every call, and the layers stay what they are: called alone, in a slice or with a hook, each does what
its dense twin does.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as nn_module
from torch.overrides import has_torch_function_unary

from prunecell.sparse.chain import chained
from prunecell.sparse.layers import SparseMatrix
from prunecell.sparse.links import LAYERS, link_for_a_compiler, link_of
from prunecell.sparse.plain import why_replaced
from prunecell.sparse.registry import has_modes
from prunecell.sparse.route import RELU, is_of_layer


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


def _calling() -> tuple[object, ...]:
    """What is called when any module is."""
    module: Any = nn.Module
    return module.__call__, module._call_impl  # noqa: SLF001 - torch's


_FORWARD, _CALLING = nn.Sequential.forward, _calling()


def _may_join() -> bool:
    """Whether nobody sees a difference: no program or mode of torch watches or changes all modules."""
    if nn.Sequential.forward is not _FORWARD or _has_global_hooks():
        return False
    return torch.compiler.is_compiling() or (_calling() == _CALLING and not has_modes())  # a compiler has its own


def _computes_otherwise(x: object) -> bool:
    """Whether a subclass of Tensor decides what is computed of it; modes, of which torch says the same, are known."""
    return has_torch_function_unary(x) and not has_modes()


class SparseSequential(nn.Sequential):
    """An nn.Sequential in which some layers are sparse.

    Those and what stands between and behind them are one call of the kernels, as far as they can be (route.py).
    Elsewhere a ReLU is done within the sparse layer before it. What is hooked, wrapped or compiled on its own is called
    as any module is, and all are where a program or a mode of torch changes what torch computes.
    """

    def forward(self, input: Any) -> Any:  # noqa: A002, ANN401 - as nn.Sequential has it
        """As nn.Sequential: each module takes what the one before it gives."""
        if not _may_join():
            forward: Any = super().forward
            return forward(input)
        x, modules = input, (*self._modules.values(),)
        read = link_for_a_compiler if torch.compiler.is_compiling() else link_of
        links = (*map(read, modules), None)  # and of what comes after the last
        n_done = 0
        while n_done < len(modules):
            module: Any = modules[n_done]
            link = None if _computes_otherwise(x) else links[n_done]
            if not is_of_layer(link):
                x = module(x)
                n_done += 1
                continue
            end = links.index(None, n_done)
            layers = [m for m in modules[n_done:end] if type(m) in LAYERS]
            if (found := chained(layers, links[n_done:end], x)) is not None:  # type: ignore[arg-type] # none of these is None
                x, n_done = found[0], n_done + found[1]
                continue
            relu = links[n_done + 1] == RELU
            x = module.computed(x, relu=relu)
            n_done += 1 + relu
        return x


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
