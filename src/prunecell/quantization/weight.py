"""One parameter that is a step times integers, but while an optimizer steps: then its latent stands in it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunecell.errors import StateError
from prunecell.memory import laid_out_as
from prunecell.quantization.passes import Pass
from prunecell.quantization.rules import BitPrice, Rule
from prunecell.quantization.sizes import ENTRY, n_bytes_of
from prunecell.quantization.specs import QuantizationSpec


@dataclass(eq=False)
class QuantizedWeight:
    """One parameter, its latent and its step.

    Attributes:
        latent: of the parameter's shape and dtype.
        log_step: the natural logarithm of the step, float32; an optimizer may hold it and learn it.
        step: with which the weight was written last; float32, > 0, of a shape that broadcasts to the weight's.
        fixed: whether a latent that is exactly zero stays so.
        gradient: the user's, while that of the latent stands in the parameter; None while the weight stands there.
    """

    name: str
    parameter: nn.Parameter
    spec: QuantizationSpec
    rule: Rule
    latent: Tensor
    log_step: nn.Parameter
    step: Tensor
    fixed: bool
    gradient: Tensor | None = None

    @classmethod
    def of(
        cls, name: str, parameter: nn.Parameter, spec: QuantizationSpec, rule: Rule, *, fixed: bool
    ) -> "QuantizedWeight":
        """The weight as it stands in the model; nothing is changed."""
        weight = parameter.detach()
        step = rule.first_step(weight)
        return cls(name, parameter, spec, rule, rule.latent_of(weight, step), nn.Parameter(step.log()), step, fixed)

    @property
    def integers(self) -> Tensor:
        """Of the parameter's shape and dtype."""
        return self.rule.integers_of(self.latent, self.step)

    @property
    def fits(self) -> bool:
        """Whether its rounded weights are finite, and none is lost because float32 has no step so small."""
        rounded = self._pass.rounded()
        is_lost = bool(self.parameter.any()) and not bool(rounded.any())
        smallest = torch.finfo(torch.float32).tiny
        return bool(rounded.isfinite().all()) and not (is_lost and bool((self.step <= smallest).any()))

    def write_(self) -> None:
        """Write step times integers into the parameter, with the step of now."""
        self._take_step_()
        self._pass.write_()

    def _take_step_(self) -> bool:
        """Take the step that was learned; where it is no number > 0 in float32, it stays as it was.

        Returns:
            Whether it is one everywhere.
        """
        step = self.log_step.detach().exp()
        low, high = (step, step) if step.numel() < 2 else step.aminmax()  # noqa: PLR2004 - of one, both are it
        if not step.numel() or 0 < float(low) <= float(high) < math.inf:  # and NaN is none of these
            self.step = step
            return True
        self.step = torch.where((step > 0) & step.isfinite(), step, self.step)
        self.log_step.data.copy_(self.step.log())
        return False

    def take_changes_(self) -> None:
        """Look at the weights of now: those that others wrote (a Pruner, a state that was loaded) have new latents."""
        self._follow()
        self._pass.take_changes_()

    def enter_(self, price: BitPrice, scale: float, *, latent: bool, log_step: bool) -> None:
        """Put the latent and its gradient into the parameter, if it has a gradient; and give the step its gradient.

        Args:
            price: of bits.
            scale: by which the gradient is too large, because the optimizer will divide it; negative where it makes
                the loss larger.
            latent: whether the optimizer holds the parameter.
            log_step: whether it holds the logarithm of the step.

        Raises:
            StateError: the gradient is sparse.
        """
        gradient = self.parameter.grad
        if self.gradient is not None or gradient is None:
            return
        if gradient.layout is not torch.strided:
            raise StateError(f"the gradient of {self.name!r} is sparse: a quantized weight needs a dense one")
        self._follow()
        if latent:
            price = BitPrice(lam=price.lam * scale, only_growth=price.only_growth)
            inner, of_step = self._pass.enter_(gradient, price)
            self.gradient, self.parameter.grad = gradient, inner
        else:
            of_step = self._pass.gradient_of_step(gradient)
        if log_step:
            self.log_step.grad = of_step

    def leave_(self, *, log_step: bool) -> bool:
        """Take the latent that the optimizer made, and write the weight and the user's gradient back.

        Returns:
            Whether the step that it made is a number > 0; otherwise the one before stays.
        """
        if log_step:
            self.log_step.grad = None  # whoever clips gradients before the next step has not to count it
        self._follow()
        if self.gradient is None:
            self._pass.take_changes_()
            is_whole = self._take_step_()
            self._pass.write_()
            return is_whole
        is_whole = self._take_step_()
        self._pass.leave_()
        self.parameter.grad, self.gradient = self.gradient, None
        return is_whole

    def _follow(self) -> None:
        """Go to where the parameter is, and lie as it does: models change their device and their memory format."""
        device = self.parameter.device
        if self.latent.device != device:
            self.latent, self.step = self.latent.to(device), self.step.to(device)
            self.log_step.data = self.log_step.data.to(device)
        self.latent = laid_out_as(self.latent, self.parameter)

    @property
    def _pass(self) -> Pass:
        return Pass(weight=self.parameter.data, latent=self.latent, step=self.step, rule=self.rule, fixed=self.fixed)

    @property
    def n_bytes(self) -> int:
        """What it takes in an archive, about."""
        return self.n_bytes_of(self.latent)

    def n_bytes_of(self, latent: Tensor) -> int:
        """The same, if it had these latents."""
        steps = 4 * (self.step.numel() - 1)  # one is counted in the entry
        return ENTRY + steps + n_bytes_of(self.rule.integers_of(latent, self.step), self.rule.image)

    def cut(self, smallest: float, dead: Tensor | None = None) -> Tensor:
        """The latents, with 0 for those of a magnitude below this, and for what is dead (bool, of their shape)."""
        small = self.latent.abs() < smallest
        return self.latent.masked_fill(small if dead is None else small | dead, 0.0)

    def update_prices(self) -> None:
        """Take the prices of the integers of now."""
        self.rule.take_prices(self.rule.prices_of(self.integers))

    def fix_zeros_(self, dead: Tensor | None) -> None:
        """What is zero now stays zero, and what is dead (bool, of the weight's shape) becomes so."""
        zero = self.integers == 0
        self.latent = self.latent.masked_fill(zero if dead is None else zero | dead, 0.0)
        self.fixed = True
        self._pass.write_()
