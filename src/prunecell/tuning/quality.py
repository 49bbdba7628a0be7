"""What a model may lose: its quality on the validation data, and the least that is enough."""

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from prunecell.checks import check_number
from prunecell.choices import by_name
from prunecell.errors import OptionError, OptionTypeError, quoted, typed
from prunecell.training.accuracy import Batches, Metric, evaluate

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, labels) -> a scalar, the mean over the samples."""

_LEAST_SLACK = 0.002
_ROUNDING = 1e-9  # so that 97.5 % is 2 points below 99.5 %


@by_name("max_drop", "max_rise", example="Allowance(max_drop=0.3)")
@dataclass(frozen=True, kw_only=True)
class Allowance:
    """How much worse a model may get; one of the two is given.

    Attributes:
        max_drop: >= 0, in points: hundredths of the metric, such as 0.3 for 99.0 % to 98.7 %.
        max_rise: >= 0, of the loss, relative: 0.05 for 5 %. The loss must be above zero then: what is 5 % of a negative
            one depends on where its zero lies, as that of a likelihood on the units of the data.
    """

    max_drop: float | None = None
    max_rise: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            raise OptionError(
                f"give exactly one of max_drop and max_rise, not {' and '.join(given) or 'none'}: for example"
                " max_drop=0.3, in points"
            )
        for name, value in given.items():
            check_number(name, value, low=0)

    def least(self, dense: float) -> float:
        """The least quality that is enough, from that of the dense model.

        Raises:
            OptionError: it is the loss that may rise, and that is not above zero.
        """
        if self.max_drop is not None:
            return dense - self.max_drop / 100 - _ROUNDING
        if dense >= 0:
            raise OptionError(
                f"max_rise={self.max_rise!r} is relative, and the dense model's loss is {-dense:g}, which is not above"
                " zero: give metric=, and max_drop= in hundredths of it"
            )
        return dense * (1 + (self.max_rise or 0)) - _ROUNDING  # a quality that is a loss is negative


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Measures the quality of a model: higher is better.

    It is the metric, or minus the mean loss where the allowance is one of the loss.

    Attributes:
        validation: -> the batches.
        allowance: what decides.
        metric: see `Metric`.
        loss: see `Loss`.
    """

    validation: Callable[[], Batches]
    allowance: Allowance
    metric: Metric
    loss: Loss

    def __call__(self, model: nn.Module) -> float:
        """The quality; the model is left in evaluation mode.

        Raises:
            OptionTypeError: the metric gives no number.
        """
        if self.allowance.max_drop is None:
            return -mean_loss(model, self.validation(), self.loss)
        value = self.metric(model, self.validation())
        try:
            return float(value)
        except (TypeError, ValueError):
            raise OptionTypeError(f"metric gave {typed(value)}: it must give a number, higher is better") from None

    def of_dense(self, model: nn.Module) -> float:
        """The quality of the dense model, with which all others are compared.

        Raises:
            OptionTypeError, OptionError: as `__call__` and `Allowance.least`, or it is no finite number.
        """
        dense = self(model)
        if not math.isfinite(dense):
            raise OptionError(f"the dense model's quality is {dense}: nothing can be compared with it")
        self.allowance.least(dense)
        return dense

    def told(self, quality: float) -> str:
        """A quality as people write it."""
        if self.allowance.max_drop is None:
            return f"loss {-quality:.4g}"
        return f"{quality:.2%}" if self.metric is evaluate else f"{quality:.4f}"


@torch.no_grad()
def check_batches(name: str, model: nn.Module, batches: Batches, loss: Loss | None = None) -> None:
    """Try the first batch, because what does not fit would be told by torch, deep within a search.

    Args:
        name: of the batches.
        model: in evaluation mode, on their device.
        batches: (inputs, labels).
        loss: see `Loss`; None: only the model is tried.

    Raises:
        OptionError: the model cannot be run on it, or the loss not be computed, as torch says. What the user's own code
            raises is left as it is.

    >>> batches = [(torch.ones(2, 3), torch.zeros(2, dtype=torch.int32))]
    >>> check_batches("train", nn.Identity(), batches, nn.functional.cross_entropy)
    Traceback (most recent call last):
    prunecell.errors.OptionError: the loss fails on outputs of shape (2, 3) with the labels of train, torch.int32 of ...
    """
    inputs, labels = next(iter(batches))
    doing = f"the model fails on the inputs of {name}, {_seen(inputs)}"
    hint = "" if inputs.dtype != torch.uint8 else "; of images a model takes inputs.float() / 255, say"
    try:
        outputs = model(inputs)
        if loss is not None:
            shape = f"of shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"that are {typed(outputs)}"
            doing = f"the loss fails on outputs {shape} with the labels of {name}, {_seen(labels)}"
            hint = "" if labels.is_floating_point() or labels.dtype == torch.int64 else "; classes are labels.long()"
            loss(outputs, labels)
    except Exception as error:
        if _is_of_torch(error):
            raise OptionError(f"{doing}: {quoted(str(error).partition(chr(10))[0], 200)}{hint}") from None
        raise


def _seen(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)}"


def _is_of_torch(error: Exception) -> bool:
    """Whether it was raised in torch's own code, or by what this file calls: the frames say nothing of the user's."""
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    file = Path(last.f_code.co_filename)
    return file == Path(__file__) or Path(torch.__file__).parent in file.parents


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Batches, loss: Loss) -> float:
    """The mean loss over the samples; the model is left in evaluation mode.

    Raises:
        OptionTypeError: the loss gives no scalar.

    >>> mean_loss(nn.Identity(), [(torch.ones(4), torch.zeros(4))], nn.functional.mse_loss)
    1.0
    """
    model.eval()
    total, n = 0.0, 0
    for inputs, labels in batches:
        value = loss(model(inputs), labels)
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
            raise OptionTypeError(f"loss gave {typed(value)}{shape}: it must give a scalar tensor, the mean of a batch")
        total += float(value) * len(labels)
        n += len(labels)
    return total / max(n, 1)


def is_hopeless(quality: float, dense: float, least: float) -> bool:
    """Whether a model that has nearly ended its training is so bad that the rest will not mend it."""
    return not quality >= least - 3 * max(dense - least, _LEAST_SLACK * abs(dense))  # NaN is hopeless
