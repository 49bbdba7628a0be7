"""The gradients of one weight: those of a step, and what adds up over many steps."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prunecell.bits.mask import Mask
from prunecell.evidence import Needs, wide

OF_A_STEP = Needs.GRADIENT | Needs.SQUARED_GRADIENT
OVER_STEPS = Needs.MOVEMENT | Needs.GRADIENT_SAMPLES
OF_GRADIENTS = OF_A_STEP | OVER_STEPS


@dataclass(eq=False)
class Gradients:
    """What a criterion needs of them.

    Attributes:
        n_samples: gradients of single steps that are kept, the last ones.
        total, squares: of this step; None: there was no backward pass.
        movement: minus the sum of w g over the steps that ended.
        samples: the gradients of the last steps that ended.
        adding: whether those two go on.
        is_calibrated: whether the gradients are those of batches, of which any number will do.
    """

    needs: Needs
    n_samples: int = 0
    total: Tensor | None = None
    squares: Tensor | None = None
    movement: Tensor | None = None
    samples: list[Tensor] = field(default_factory=list)
    adding: bool = False
    is_calibrated: bool = False
    _moved: Tensor | None = None
    _is_new: bool = False

    def add(self, gradient: Tensor, mask: Mask, values: Callable[[], Tensor], *, more: bool) -> None:
        """Take what has accumulated until now in a step; see `Collector.add_gradient`."""
        gradient = gradient.detach().to_dense()
        if not more:
            self.forget_step()
        before = torch.zeros_like(gradient) if self.total is None else self.total
        seen_before = before.clone()
        mask.zero_pruned_(seen_before)
        newly = gradient - seen_before
        self.total = before + newly
        self._add_squares(newly)
        self._is_new = True
        if Needs.MOVEMENT in self.needs:
            self._moved = -wide(values()) * wide(self.total)

    def end_step(self) -> None:
        """Add the step that ended to the sums, unless its gradient overflowed."""
        if not (self.adding and self._is_new) or self.total is None:
            return
        self._is_new = False
        is_finite = self.total.isfinite().all()  # not asked for where no answer is needed: a GPU would wait
        if self._moved is not None:
            self._add_movement(torch.where(is_finite, self._moved, 0.0))
        if Needs.GRADIENT_SAMPLES in self.needs and bool(is_finite):
            self._add_sample(self.total)

    def add_batch(self, gradient: Tensor, values: Tensor) -> None:
        """Take the gradient of one batch, without a step: it adds to all."""
        self.is_calibrated = True
        self.total = gradient if self.total is None else self.total + gradient
        self._add_squares(gradient)
        if Needs.MOVEMENT in self.needs:
            self._add_movement(-wide(values) * wide(gradient))
        if Needs.GRADIENT_SAMPLES in self.needs:
            self._add_sample(gradient)

    def forget_step(self) -> None:
        """Forget what is of this step."""
        self.total = self.squares = self._moved = None
        self._is_new = self.is_calibrated = False

    def forget(self) -> None:
        """Forget all."""
        self.forget_step()
        self.movement, self.adding = None, False
        self.samples.clear()

    def sums(self) -> tuple[Tensor | None, Tensor | None]:
        """What a resumed run needs: the movement, and the samples, (n, *shape)."""
        return None if self.movement is None else self.movement.clone(), self.of(Needs.GRADIENT_SAMPLES)

    def take(self, movement: Tensor | None, samples: Tensor | None) -> None:
        """Go on from such sums."""
        self.movement, self.samples = movement, [] if samples is None else [*samples]

    def has(self, need: Needs) -> bool:
        """Whether it is there and to be believed: a step that overflowed is not."""
        if need is Needs.GRADIENT_SAMPLES:
            return len(self.samples) >= (1 if self.is_calibrated else self.n_samples)
        found = self.of(need)
        return found is not None and bool(found.isfinite().all()) and (need is not Needs.MOVEMENT or bool(found.any()))

    def of(self, need: Needs) -> Tensor | None:
        """What was found."""
        if need is Needs.GRADIENT_SAMPLES:
            return torch.stack([one.to(self.samples[-1].device) for one in self.samples]) if self.samples else None
        return {Needs.GRADIENT: self.total, Needs.SQUARED_GRADIENT: self.squares, Needs.MOVEMENT: self.movement}[need]

    def _add_squares(self, gradient: Tensor) -> None:
        if Needs.SQUARED_GRADIENT in self.needs:
            squares = wide(gradient).square()
            self.squares = squares if self.squares is None else self.squares + squares

    def _add_movement(self, moved: Tensor) -> None:
        self.movement = moved if self.movement is None else self.movement.to(moved.device) + moved

    def _add_sample(self, gradient: Tensor) -> None:
        self.samples.append(gradient)
        del self.samples[: -self.n_samples]
