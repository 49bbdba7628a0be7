"""wrap: a torch module with N2D2's solvers and PruneCells. Block: any of N2D2's networks in a loop of torch's."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Variable

import n2d2
from n2d2.calling import CheckedCall
from n2d2.checks import check_counts
from n2d2.error_handler import WrongInputType, WrongValue
from n2d2.updating import update
from n2d2.warning import warn_caller
from pytorch_to_n2d2.network import TorchNetwork


class Block(nn.Module, metaclass=CheckedCall):
    """A network of N2D2's as a torch module: `loss.backward()` updates it, with its own solvers and PruneCells.

    Torch's optimizers do not see its parameters; it shows them one parameter without effect, because they want one.
    All parameters are updated when a backward pass is over that left gradients in them, in eval mode too;
    `get_block().freeze()` keeps them. A `state_dict` has the parameters of the network.

    Args:
        block: a Sequence, a DeepNetCell, or another of N2D2's containers.
        need_to_flatten: True: outputs are (batch, values); False: vectors are (batch, values, 1, 1) as in N2D2; None:
            outputs are as the block gives them.
        batch_size: of the first call, by default; for N2D2's scripts, because each call may have its own.

    Raises:
        WrongInputType: it is no container of cells.

    >>> from n2d2.cells import Fc, Sequence
    >>> model = Block(Sequence([Fc(4, 2, name="fc")]), need_to_flatten=True)
    >>> before = model.get_block()["fc"].weight.clone()
    >>> model(torch.ones(3, 4)).sum().backward()
    >>> bool((model.get_block()["fc"].weight < before).all())
    True
    """

    _block: n2d2.cells.Block

    def __init__(
        self,
        block: n2d2.cells.Block,
        need_to_flatten: bool | None = False,  # noqa: FBT001, FBT002 - N2D2's signature
        batch_size: int | None = None,
    ) -> None:
        if not isinstance(block, n2d2.cells.Block):
            raise WrongInputType(
                f"block is a {type(block).__name__}: it must be one of N2D2's containers, a Sequence say; wrap() takes"
                " modules of torch"
            )
        super().__init__()
        self.random_parameter = nn.Parameter(torch.ones(1))
        self.__dict__["_block"] = block  # not a submodule: torch's optimizers would train its parameters too
        self.need_to_flatten, self.batch_size = need_to_flatten, batch_size
        self._due: dict[object, int] = {}  # calls that gradients came back to, and their samples

    def get_block(self) -> n2d2.cells.Block:
        """The network of N2D2's."""
        return self._block

    def summary(self) -> None:
        """Print a table of the cells."""
        self._block.summary()

    def forward(self, inputs: Tensor) -> Any:  # noqa: ANN401 - a tensor, or several
        """What the network gives for a batch; several outputs are a tuple.

        Raises:
            WrongInputType: it is no torch tensor.
        """
        if not isinstance(inputs, Tensor):
            raise WrongInputType(
                f"a Block takes torch tensors, not a {type(inputs).__name__}; get_block() takes others"
            )
        if self.batch_size is None:
            self.batch_size = len(inputs)
        made = self._block(inputs)
        call = object()

        def came_back(_: Tensor) -> None:
            self._due[call] = len(inputs)
            Variable._execution_engine.queue_callback(self._update)  # noqa: SLF001 - torch's only spelling

        for output in _tensors(made):
            if output.requires_grad:
                output.register_hook(came_back)  # type: ignore[no-untyped-call] # torch's
        if isinstance(made, Tensor):
            return self._shaped(made)
        return tuple(map(self._shaped, made)) if isinstance(made, list) else made

    def _shaped(self, output: Tensor) -> Tensor:
        if self.need_to_flatten:
            return output.flatten(1)
        vectors = self.need_to_flatten is False and output.dim() == 2  # noqa: PLR2004 - (batch, values)
        return output[..., None, None] if vectors else output

    def _update(self) -> None:
        """Once after each backward pass, whatever was called within it."""
        n_samples, self._due = sum(self._due.values()), {}
        if n_samples and any(p.grad is not None for p in self._block.parameters()):
            update(
                [cell for cell in self._block.modules() if isinstance(cell, n2d2.cells.NeuralNetworkCell)],
                n_samples,
                None,
            )

    def train(self, mode: bool = True) -> "Block":  # noqa: FBT001, FBT002 - torch's signature
        """Switch to training, or to testing."""
        self._block.train(mode)
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Block":  # noqa: FBT001, FBT002 - torch's signature
        self._block._apply(fn, recurse)  # type: ignore[no-untyped-call]  # noqa: SLF001 - what .to(), .cuda(), .double() call
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call] # torch's

    def get_extra_state(self) -> dict[str, Any]:
        """The parameters of the network, for `state_dict`."""
        return self._block.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` gave."""
        self._block.load_state_dict(state)

    def extra_repr(self) -> str:
        """The cells."""
        return str(self._block)


def _tensors(made: Any) -> Iterator[Tensor]:  # noqa: ANN401 - whatever a module gives
    if isinstance(made, Tensor):
        yield made
    for one in made.values() if isinstance(made, dict) else made if isinstance(made, list | tuple) else ():
        yield from _tensors(one)


def wrap(
    torch_model: nn.Module,
    input_size: Sequence[int],
    opset_version: int = 11,
    in_names: list[str] | None = None,
    out_names: list[str] | None = None,
    verbose: bool = False,  # noqa: FBT001, FBT002
) -> Block:
    """A copy of a torch module that learns by N2D2's solvers, by SGD() at first, and can be pruned by PruneCells.

    The copy computes exactly what the module computes: no ONNX file is written or read on the way.

    Args:
        torch_model: any module that takes one tensor. It stays as it is.
        input_size: of its input, the batch first: [batch, channels, y, x].
        opset_version: of the ONNX file that N2D2 writes; without effect.
        in_names: without effect, as opset_version.
        out_names: without effect, as opset_version.
        verbose: print the cells.

    Raises:
        WrongInputType: it is no torch module, or the size is no list of whole numbers.
        WrongValue: a size is not >= 1, or the module is lazy and was not called yet.

    >>> from n2d2.quantizer import PruneCell
    >>> net = wrap(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)), [8, 1, 8, 8])
    >>> [(cell.get_type(), cell.get_name()) for cell in net.get_block()]
    [('Conv', '0'), ('Fc', '3')]
    >>> net.get_block()["3"].quantizer = PruneCell(prune_mode="Static", threshold=0.5)
    >>> net(torch.zeros(8, 1, 8, 8)).shape
    torch.Size([8, 2])
    """
    if not isinstance(torch_model, nn.Module):
        raise WrongInputType(f"torch_model must be a torch.nn.Module, not a {type(torch_model).__name__}")
    if not isinstance(input_size, list | tuple) or not input_size:
        raise WrongInputType(f"input_size={input_size!r} is illegal: it must be a list of sizes, the batch first")
    for size in input_size:
        check_counts(input_size=size)
    for name, value, default in (
        ("opset_version", opset_version, 11),
        ("in_names", in_names, None),
        ("out_names", out_names, None),
    ):
        if value != default:
            warn_caller(f"{name}={value!r} has no effect: no ONNX file is made")
    try:
        module = copy.deepcopy(torch_model)
    except RuntimeError as error:
        raise WrongValue(f"{type(torch_model).__name__} cannot be copied: {error}") from None
    made = Block(TorchNetwork(module, input_size), None, input_size[0])
    made.training = module.training
    if verbose:
        print(made.get_block())  # noqa: T201 - as it was asked to
    return made


def _to_n2d2(torch_tensor: Tensor) -> n2d2.Tensor:
    """A copy as an n2d2.Tensor; N2D2's scripts and tests call it."""
    return n2d2.Tensor.from_torch(torch_tensor.detach().clone(memory_format=torch.contiguous_format))


def _to_torch(tensor: n2d2.Tensor) -> Tensor:
    """The torch tensor within; N2D2's scripts and tests call it."""
    return tensor.to_torch().detach()
