"""Passes: all that is done to a weight around an optimizer's step, in one pass over its memory each time.

The compiled passes work on contiguous float32 on the CPU. Their twins in torch work on everything else, and where no
compiled library is.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunecell import native
from prunecell.memory import laid_out_as
from prunecell.quantization.prices import FLAG_BITS, GROWTH_BITS
from prunecell.quantization.rules import BitPrice, Rule

_PLAIN = {Tensor, nn.Parameter}
_WORTH_A_THREAD = 1 << 16
"""Weights."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pass:
    """A weight with what belongs to it.

    Attributes:
        weight: (...) the parameter's data.
        latent: (...) of the same dtype and device.
        step: float32, > 0, of a shape that broadcasts to the weight's.
        rule: how the two belong together.
        fixed: whether a latent that is exactly zero stays so.
    """

    weight: Tensor
    latent: Tensor
    step: Tensor
    rule: Rule
    fixed: bool

    def enter_(self, gradient: Tensor, price: BitPrice) -> tuple[Tensor, Tensor]:
        """Before a step: take the changes of others into the latent, and move it into the weight until `leave_`.

        Args:
            gradient: of the weight.
            price: of bits.

        Returns:
            The gradients of the latent, with the weight's strides, and of the logarithm of the step.
        """
        if (library := self._library(gradient)) is not None:
            # The latent moves into the weight, so its memory is free for the gradient until it comes back; but where
            # zeros are fixed, it tells then which they are.
            inner = torch.empty_like(self.weight) if self.fixed else self.latent
            sums = torch.empty(self._sizes[0], dtype=torch.float64)
            given = self._given(gradient=gradient.data_ptr(), inner=inner.data_ptr(), sums=sums.data_ptr())
            self._price(given, price)
            self._run(library.pc_enter_latents, given)
            return inner, (sums.sum() if self.step.ndim == 0 else sums.view_as(self.step)).float()
        self.take_changes_()
        inner, of_step = self.rule.gradients(gradient, self.latent, self.step, price)
        if self.fixed:
            inner.masked_fill_(self.latent == 0, 0.0)
        self.weight.copy_(self.latent)
        return laid_out_as(inner, self.weight), of_step

    def gradient_of_step(self, gradient: Tensor) -> Tensor:
        """The gradient of the logarithm of the step, where the weight and its latent stay where they are.

        Args:
            gradient: of the weight.
        """
        self.take_changes_()
        _, of_step = self.rule.gradients(gradient, self.latent, self.step, BitPrice(lam=0.0, only_growth=True))
        return of_step

    def leave_(self) -> None:
        """After a step: take the latent out of the weight, and write the step times its integer there."""
        if (library := self._library()) is not None:
            self._run(library.pc_leave_latents, self._given())
            return
        made = self.weight.masked_fill(self.latent == 0, 0.0) if self.fixed else self.weight
        self.latent.copy_(made)
        self.write_()

    def take_changes_(self) -> None:
        """Give the weights that others wrote new latents."""
        changed = self.weight != self.rounded()
        if bool(changed.any()):
            self.latent.copy_(torch.where(changed, self.rule.latent_of(self.weight, self.step), self.latent))

    def write_(self) -> None:
        """Write the step times integers into the weight."""
        self.weight.copy_(self.rounded())

    def rounded(self) -> Tensor:
        """The step times integers, multiplied in float32 as in an archive, and cast to the weight's dtype."""
        return (self.rule.integers_of(self.latent, self.step).float() * self.step).to(self.weight.dtype)

    @property
    def _sizes(self) -> tuple[int, int, int]:
        if self.weight.ndim < 2:  # noqa: PLR2004 - a vector is one row
            return 1, self.weight.numel(), 1
        rows, inputs, *positions = self.weight.shape
        return rows, inputs, torch.Size(positions).numel()

    def _library(self, *others: Tensor) -> ctypes.CDLL | None:
        """The compiled passes, where they take these tensors."""
        tensors = (self.weight, self.latent, *others)
        fits = all(type(t) in _PLAIN and t.dtype == torch.float32 and t.is_cpu and t.is_contiguous() for t in tensors)
        return native.library() if fits else None

    def _given(self, **addresses: int) -> native.Latents:
        rows, inputs, positions = self._sizes
        return native.Latents(
            weight=self.weight.data_ptr(),
            latent=self.latent.data_ptr(),
            steps=self.step.data_ptr(),
            n_rows=rows,
            n_inputs=inputs,
            n_positions=positions,
            largest=self.rule.largest,
            one_step=self.step.numel() == 1,
            fixed=self.fixed,
            **addresses,
        )

    def _price(self, given: native.Latents, price: BitPrice) -> None:
        given.lam, given.only_growth = price.lam, price.only_growth
        if (prices := self.rule.prices) is None:
            given.low, given.growth = FLAG_BITS, GROWTH_BITS
            return
        given.low, given.high, given.growth = prices.low, prices.high, prices.growth
        given.rows, given.columns = prices.rows.data_ptr(), prices.columns.data_ptr()
        given.kernels = None if prices.kernels is None else prices.kernels.data_ptr()

    def _run(self, work: Callable[[int, int | None], int], given: native.Latents) -> None:
        n_threads = min(native.n_threads(), 1 + self.weight.numel() // _WORTH_A_THREAD)
        work(given.address, native.team(n_threads))
