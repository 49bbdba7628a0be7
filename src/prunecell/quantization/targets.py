"""From a plan to weights: what a spec takes, and what cannot be quantized and why."""

from collections.abc import Sequence

import torch

from prunecell.errors import OptionError, PlanError
from prunecell.plan import Target, Use
from prunecell.plan.candidates import Candidate
from prunecell.plan.prunable import why_not
from prunecell.quantization.images import images_of
from prunecell.quantization.prices import Image
from prunecell.quantization.rules import IntRule, RateRule
from prunecell.quantization.specs import IntSpec, QuantizationSpec, RateSpec
from prunecell.quantization.weight import QuantizedWeight

_BESIDE_MATRICES = ("an embedding", "a bias")
"""What is learned under the price of bits beside matrices and kernels; see `prunable.why_not`."""


def _why_not(candidate: Candidate, spec: QuantizationSpec) -> str:
    """Why a spec does not take a parameter by default; empty if it does."""
    if isinstance(spec, IntSpec) or candidate.impossible:
        return candidate.reason
    if candidate.normed is not None:
        return "under a norm that its layer divides by, which must not become zero"
    if not candidate.parameter.requires_grad:
        return "frozen: what is not learned can only be rounded"
    reason = why_not(candidate.parameter, candidate.places)
    return "" if reason in _BESIDE_MATRICES else candidate.reason


QUANTIZING = Use(verb="quantize", done="quantized", specs=(RateSpec, IntSpec), why_not=_why_not)


def weights_of(targets: Sequence[Target]) -> dict[str, QuantizedWeight]:
    """Name -> the weight of each target, as it stands in the model; nothing is changed.

    Raises:
        PlanError, OptionError: one cannot be quantized under its spec.
    """
    images = dict(images_of((target.name, target.owner) for target in targets if target.parameter.ndim > 1))
    return {target.name: _weight(target, images.get(target.name)) for target in targets}


def _weight(target: Target, image: Image | None) -> QuantizedWeight:
    weight, spec = target.parameter.detach(), target.spec
    if not bool(weight.isfinite().all()):
        raise OptionError(f"parameter {target.name!r} cannot be quantized: it holds inf or NaN")
    if isinstance(spec, RateSpec) and weight.dtype == torch.float16:
        raise PlanError(
            f"parameter {target.name!r} cannot be learned in float16, which has no numbers as small as the price of a"
            " bit: convert the model by .float() and train under torch.autocast, or by .bfloat16()"
        )
    if getattr(target.owner, "sparse", False):
        raise PlanError(
            f"parameter {target.name!r} cannot be quantized: its layer gives sparse gradients; make it with"
            " sparse=False"
        )
    rule = RateRule(image=image) if isinstance(spec, RateSpec) else IntRule(largest=spec.largest)
    made = QuantizedWeight.of(target.name, target.parameter, spec, rule, fixed=isinstance(spec, IntSpec))
    if not made.fits:
        raise OptionError(
            f"parameter {target.name!r} cannot be quantized: its numbers, of up to {float(weight.abs().max()):.3g}, are"
            " too large or too small for a step in float32"
        )
    return made
