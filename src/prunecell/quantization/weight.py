"""One parameter that is a step times integers, but while an optimizer steps: then its latent stands in it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunecell.quantization.prices import Image, bits_of
from prunecell.quantization.rules import Price, RateRule, Rule, exact
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

    def write_(self) -> None:
        """Write step times integers into the parameter, with the step of now."""
        self.step = self.log_step.detach().exp()
        self.parameter.data.copy_(self._rounded())

    def take_changes_(self) -> None:
        """Look at the weights of now: those that others wrote (a Pruner, a state that was loaded) have new latents."""
        weight = self.parameter.data
        if self.latent.device != weight.device:
            self.latent, self.step = self.latent.to(weight.device), self.step.to(weight.device)
            self.log_step.data = self.log_step.data.to(weight.device)
        changed = weight != self._rounded()
        if bool(changed.any()):
            self.latent = torch.where(changed, self.rule.latent_of(weight, self.step), self.latent)

    def enter_(self, price: Price, scale: float, *, latent: bool, log_step: bool) -> None:
        """Put the latent and its gradient into the parameter, if it has a gradient; and give the step its gradient.

        Args:
            price: of bits.
            scale: by which the gradient is too large, because the optimizer will divide it.
            latent: whether the optimizer holds the parameter.
            log_step: whether it holds the logarithm of the step.
        """
        if self.gradient is not None or self.parameter.grad is None:
            return
        gradient = self.parameter.grad
        self.take_changes_()
        price = Price(lam=price.lam * scale, only_growth=price.only_growth)
        inner, of_step = self.rule.gradients(gradient, self.latent, self.step, price)
        if log_step:
            self.log_step.grad = of_step
        if latent:
            self.gradient = gradient
            self.parameter.grad = inner.masked_fill_(self.latent == 0, 0.0) if self.fixed else inner
            self.parameter.data.copy_(self.latent)

    def leave_(self, *, log_step: bool) -> None:
        """Take the latent that the optimizer made, and write the weight and the user's gradient back."""
        if log_step:
            self.log_step.grad = None  # whoever clips gradients before the next step has not to count it
        if self.gradient is not None:
            made = self.parameter.data
            self.latent = made.masked_fill(self.latent == 0, 0.0) if self.fixed else made.clone()
            self.parameter.grad, self.gradient = self.gradient, None
        else:
            self.take_changes_()
        self.write_()

    @property
    def image(self) -> Image | None:
        """See `RateRule`."""
        return self.rule.image if isinstance(self.rule, RateRule) else None

    @property
    def bits(self) -> float:
        """What it takes in a file: an estimate, without its name and its shape."""
        return self.bits_of(self.latent)

    def bits_of(self, latent: Tensor) -> float:
        """The same, if it had these latents."""
        return bits_of(self.rule.integers_of(latent, self.step), self.image) + 32 * self.step.numel()

    def cut(self, smallest: float) -> Tensor:
        """The latents, with 0 for those of a magnitude below this."""
        return self.latent.masked_fill(self.latent.abs() < smallest, 0.0)

    def look_again(self) -> None:
        """Take the prices of the integers of now."""
        if isinstance(self.rule, RateRule):
            self.rule.look_again(self.latent, self.step)

    def fix_zeros_(self) -> None:
        """What is zero now stays zero."""
        self.latent = self.latent.masked_fill(self.integers == 0, 0.0)
        self.fixed = True

    def _rounded(self) -> Tensor:
        dtype = exact(self.parameter.dtype)
        return (self.integers.to(dtype) * self.step.to(dtype)).to(self.parameter.dtype)
