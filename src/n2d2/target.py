"""Targets: the loss and the success of a network's output against the provider's labels."""

from collections import defaultdict
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
import torch
import torch.nn.functional as F

from n2d2.calling import CheckedCall
from n2d2.cells.cell import Cell
from n2d2.cells.naming import default_name
from n2d2.checked import Declared
from n2d2.checks import check_text
from n2d2.error_handler import (
    NotInitialized,
    RefusedParameter,
    WrongInputType,
    WrongValue,
    check_choice,
    n2d2_errors,
    no_such_name,
    refuse_unknown,
)
from n2d2.fields import accepted, checked_by, count, number
from n2d2.metrics import METRICS, average_score
from n2d2.named import Named
from n2d2.refusal import Refused
from n2d2.summary import summary_of
from n2d2.tally import IGNORED, TALLY, Tally, check_batch, of_classes, squared_error
from n2d2.tensor import Tensor
from prunecell.checks import check_count
from prunecell.disk.atomic import replacing
from prunecell.errors import StateError, quoted
from prunecell.kinds import check_fields
from prunecell.report.picture import can_draw, new_figure

__all__ = ["IGNORED", "Score", "Target", "squared_error"]

MAX_WRITTEN = 20
"""Up to so many classes the numbers stand in the picture of a confusion matrix."""


def _no(default: Any, instead: str) -> Any:  # noqa: ANN401 - a field of any type
    """A field of which only the default is legal."""

    def check(name: str, value: object) -> None:
        if value != default:
            raise RefusedParameter(f"{name}={value!r} is refused: {instead}")

    return checked_by(check, default=default)


class _Options(Declared):
    """The options of a Score. What only a picture of the labels, or a target of images, would need has no effect."""

    target_value: float = number(1.0)
    default_value: float = number(0.0)
    top_n: int = count(1, low=1)
    binary_threshold: float = number(0.5)
    labels_mapping: str = _no("", "labels are the outputs in the order of the data: sort its folders")
    create_missing_labels: bool = _no(default=False, instead="it belongs to labels_mapping")
    data_as_target: bool = _no(default=False, instead="a network learns labels here; use a Softmax with loss, or none")
    masked_label: int = _no(-1, "it is for segmentation")
    weak_target: int = _no(-2, "it is for segmentation")
    confusion_range_min: float = accepted(default=0.0)
    confusion_range_max: float = accepted(default=1.0)
    confusion_quant_steps: int = accepted(default=10)
    no_display_label: int = accepted(default=-1)
    labels_hue_offset: int = accepted(default=0)
    estimated_labels_value_display: bool = accepted(default=True)
    masked_label_value: bool = accepted(default=False)
    value_threshold: float = accepted(default=0.0)
    image_log_format: str = accepted(default="jpg")


class Target(Named, metaclass=CheckedCall, shared=True):
    """What targets share: `isinstance(x, Target)`. Never instantiated itself.

    Args:
        provider: gives the labels of the batch, `provider.labels`.
        name: of its folder too; by default the class and a number.
        options: top_n (a label among the N highest scores is right too, for `get_average_top_n_success`), target_value,
            default_value, binary_threshold (of a single output).

    Raises:
        UndefinedParameterError, RefusedParameter, WrongValue, WrongInputType: an option is not legal.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = tuple(one.name for one in fields(_Options))

    def __init__(self, provider: Any, name: str | None = None, **options: Any) -> None:  # noqa: ANN401
        if not {"labels", "get_labels"} & set(dir(provider)):
            raise WrongInputType(f"provider={quoted(provider)} is illegal: it must be a DataProvider")
        refuse_unknown(type(self).__name__, options, self.OPTIONS)
        self.options = _Options(**options)
        check_text("name", "" if name is None else name)
        self.provider, self.name = provider, name or default_name(type(self).__name__)
        self._every_loss: list[float] = []
        self._made: Tensor | None = None
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None
        self._cells: tuple[Cell, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401
        if name in self.OPTIONS:
            setattr(self.options, name, value)
            return
        if not name.startswith("_"):
            refuse_unknown(type(self).__name__, [name], (*self.OPTIONS, "losses", "name", "options", "provider"))
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - options of any type
        if name.startswith("_") or "options" not in self.__dict__:
            raise AttributeError(name)
        refuse_unknown(type(self).__name__, [name], self.OPTIONS)
        return getattr(self.options, name)

    def get_parameter(self, key: str) -> Any:  # noqa: ANN401 - as for Named
        """The value of a parameter."""
        refuse_unknown(type(self).__name__, [key], (*self.OPTIONS, "name"))
        return getattr(self, key)

    def get_name(self) -> str:
        """The name of the target."""
        return self.name

    def get_loss(self) -> list[float]:
        """The losses of all batches, of all partitions."""
        return list(self._every_loss)

    def get_current_loss(self) -> float:
        """The loss of the last batch.

        Raises:
            NotInitialized: there was none.
        """
        if not self._every_loss:
            raise NotInitialized(f"{self.name} has no loss yet: call it with the output of a network")
        return self._every_loss[-1]

    def get_deepnet(self) -> Any:  # noqa: ANN401 - a DeepNet
        """The graph of the network whose output came last; None before."""
        return None if self._made is None else self._made.get_deepnet()

    def _place(self, kind: str, name: str | Path) -> Path:
        """Where a log is written: a name alone is N2D2's, in the folder of the target."""
        if not isinstance(name, str | Path):
            raise WrongInputType(f"a log needs a name, which is a string, not a {type(name).__name__}")
        return Path(name) if Path(name).parent != Path() else Path(self.name) / f"{kind}{name}"

    def log_estimated_labels(self, path: str) -> None:
        """Add the last batch to NAME/`path`/classif.log: for each stimulus label, estimated one, its score, all.

        Raises:
            NotInitialized: there was none.
        """
        if self._last is None:
            raise NotInitialized(f"{self.name} has no labels yet: call it with the output of a network")
        scores, labels = (one.cpu() for one in self._last)
        best = of_classes(scores, self.options.binary_threshold).max(1).indices
        file = self._place("", path) / "classif.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as lines:
            for label, estimated, values in zip(labels.tolist(), best.tolist(), scores, strict=True):
                told = [values[min(estimated, len(values) - 1)], *values]
                lines.write(f"{label} {estimated} {' '.join(f'{value:.6g}' for value in told)}\n")

    log_estimated_labels_json = Refused(
        "it tells of outputs of the size of an image; log_estimated_labels writes what was taken for what"
    )

    def __str__(self) -> str:
        return self.name


class Score(Target):
    """Cross-entropy where the output comes from a Softmax with loss, else `squared_error`; and the success.

    Called with the output of a network, it returns the loss, for `back_propagate()` and `update()`.
    """

    def __init__(self, provider: Any, name: str | None = None, **options: Any) -> None:  # noqa: ANN401
        super().__init__(provider, name, **options)
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._batches: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
        self.losses: list[float] = []

    def __call__(self, output: Tensor | None = None) -> Tensor:
        """The loss of the batch that the provider read last, as a tensor of one value.

        Raises:
            WrongInputType: it is no n2d2.Tensor.
            WrongValue: the labels do not fit the output, or it has more than one value for each class.
        """
        if not isinstance(output, Tensor):
            raise WrongInputType(f"a Target takes the n2d2.Tensor of a network, not a {type(output).__name__}")
        sizes = output.shape()
        if len(sizes) < 2 or any(size != 1 for size in sizes[2:]):  # noqa: PLR2004 - (batch, classes)
            raise WrongValue(f"{self.name} takes one value for each class, [batch, classes, 1, 1], not {sizes}")
        labels = self._labels().to(output.values.device)
        scores = output.values.reshape(len(output.values), -1)
        check_batch(self.name, scores, labels)
        loss = self._loss_of(output, scores, labels)
        self.count(scores.detach(), labels, loss.item())
        self._every_loss.append(loss.item())
        self._cells = tuple(cell for cell in output.trace.cells if isinstance(cell, Cell))
        self._made = Tensor.from_torch(loss.detach())
        self._made.trace = output.trace
        made = Tensor.from_torch(loss)
        made.trace = output.trace
        return made

    def _labels(self) -> torch.Tensor:
        labels = getattr(self.provider, "labels", None)
        found = self.provider.get_labels() if labels is None else labels
        return found if isinstance(found, torch.Tensor) else found.to_torch().reshape(-1).long()

    def _loss_of(self, output: Tensor, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if output.logits is not None:
            return F.cross_entropy(output.logits.flatten(1), labels, ignore_index=IGNORED)
        options = self.options
        return squared_error(scores, labels, target_value=options.target_value, default_value=options.default_value)

    def count(self, scores: torch.Tensor, labels: torch.Tensor, loss: float = float("nan")) -> None:
        """Count a batch in the provider's current partition: scores (n, classes, ...), int64 labels (n,)."""
        scores, partition = scores.flatten(1), self._partition()
        check_batch(self.name, scores, labels)
        classes = of_classes(scores, self.options.binary_threshold)
        if self.options.top_n > classes.shape[1]:
            raise WrongValue(f"top_n={self.options.top_n} is illegal: {self.name} got {classes.shape[1]} outputs")
        tally = self._tallies[partition]
        added = tally.add(classes, labels, top_n=self.options.top_n)
        self._batches[partition].append(added)
        tally.loss_sum += loss * added[-1] if added[-1] else 0.0
        self._last = (scores, labels)
        if partition == "Learn":
            self.losses.append(loss)

    def _partition(self) -> str:
        return str(getattr(self.provider, "partition", "Learn"))

    provide_targets = Refused("call the target with the output of the network: it takes the labels too")
    process = Refused("call the target with the output of the network: it counts the batch")

    def loss(self) -> float:
        """The loss of the last batch, as `get_current_loss`."""
        return self.get_current_loss()

    def average_loss(self) -> float:
        """The mean loss of the stimuli since the last `clear_success`, in the current partition."""
        tally = self._tallies[self._partition()]
        return tally.loss_sum / tally.seen if tally.seen else float("nan")

    def get_average_success(self, window: int = 0) -> float:
        """The fraction of stimuli whose label has the highest score, in [0, 1].

        Args:
            window: the number of batches that count, the last ones; 0: all since the last `clear_success`. They are
                those of the current partition.
        """
        return self._average(0, window)

    def get_average_top_n_success(self, window: int = 0) -> float:
        """The fraction of stimuli whose label is among the `top_n` highest scores; as `get_average_success`."""
        return self._average(1, window)

    def _average(self, which: int, window: int) -> float:
        with n2d2_errors():
            check_count("window", window)
        partition = self._partition()
        tally = self._tallies[partition]
        right, seen = (tally.right, tally.right_top_n)[which], tally.seen
        if window:
            batches = self._batches[partition][-window:]
            right, seen = sum(one[which] for one in batches), sum(one[2] for one in batches)
        return right / max(seen, 1)

    def get_average_score(self, metric: str) -> float:
        """A score of the current partition's confusion matrix, the mean over the classes.

        Args:
            metric: a name of `n2d2.metrics.METRICS`: "Sensitivity", "Precision", "F1Score", ...
        """
        check_choice("metric", metric, METRICS)
        return average_score(self.get_confusion_matrix(), metric)

    def clear_success(self, partition: str | None = None) -> None:
        """Begin to count anew in a partition, by default the current one; the confusion matrix too."""
        chosen = partition or self._partition()
        self._tallies.pop(chosen, None)
        self._batches.pop(chosen, None)

    clear_score = clear_success

    def state_dict(self) -> dict[str, Any]:
        """What was counted since the last `clear_success`, for `load_state_dict`."""
        return {partition: vars(tally).copy() for partition, tally in self._tallies.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from a `state_dict`.

        Raises:
            StateError: it is none of a target; nothing was changed.
        """
        if not isinstance(state, dict) or not all(isinstance(partition, str) for partition in state):
            raise StateError("the state of a target must map partitions to what was counted")
        tallies = {
            partition: Tally(**check_fields(tally, TALLY, f"partition {quoted(partition)} of the target"))
            for partition, tally in state.items()
        }
        self._batches.clear()
        self._tallies.clear()
        self._tallies.update(tallies)

    def get_confusion_matrix(self) -> np.ndarray[Any, Any]:
        """Stimuli of each label (rows) that were taken for each label (columns), in the current partition."""
        confusion = self._tallies[self._partition()].confusion
        return np.zeros((0, 0), np.int64) if confusion is None else confusion.numpy()

    def log_confusion_matrix(self, file_name: str | Path) -> None:
        """Draw the confusion matrix of the current partition as a .png; its numbers go to a .dat.

        Args:
            file_name: a name, for NAME/ConfusionMatrix_`file_name`; or a path with a folder, as it is.

        Raises:
            NotInitialized: nothing was counted.
        """
        path, matrix = self._place("ConfusionMatrix_", file_name), self.get_confusion_matrix()
        if not matrix.size:
            raise NotInitialized(f"{self.name} has counted nothing in {self._partition()} yet: call it with outputs")
        _write(path, matrix, "%d")
        if not can_draw():
            return
        from matplotlib.colors import PowerNorm  # noqa: PLC0415 - slow, and wanted only for pictures

        figure = new_figure(6, 5)
        axes = figure.add_subplot()
        shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.3, 0, 1))  # so that rare errors are seen
        if len(matrix) <= MAX_WRITTEN:
            for (label, estimated), n in np.ndenumerate(matrix):
                color = "white" if 2 * shares[label, estimated] > 1 else "black"
                axes.text(estimated, label, str(n), ha="center", va="center", fontsize=7, color=color)
        axes.set(xlabel="estimated", ylabel="label", title=f"{self._partition()}: {self.get_average_success():.2%}")
        with replacing(Path(f"{path}.png")) as file:
            figure.savefig(file, format="png", dpi=130)

    def log_stats(self, path: str | Path) -> None:
        """Write the table of the cells that made the last output, as `summary()` prints it, to `path`.log."""
        if not self._cells:
            raise NotInitialized(f"{self.name} has no statistics yet: call it with the output of a network")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(Path(f"{path}.log")) as file:
            file.write(f"{summary_of(self._cells)}\n".encode())

    def log_success(self, path: str | Path) -> None:
        """Draw the loss of every batch that was learned as a .png; the numbers go to a .dat.

        Args:
            path: a name, for NAME/Success_`path`; or a path with a folder, as it is.
        """
        path = self._place("Success_", path)
        _write(path, np.array(self.losses), "%.6g")
        if not can_draw():
            return
        figure = new_figure(6, 5)
        axes = figure.add_subplot()
        axes.plot(self.losses)
        axes.set(xlabel="mini-batch", ylabel="loss", title=f"{self._partition()}: {self.get_average_success():.2%}")
        with replacing(Path(f"{path}.png")) as file:
            figure.savefig(file, format="png", dpi=130)


def _write(path: str | Path, numbers: np.ndarray[Any, Any], fmt: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(Path(f"{path}.dat")) as file:
        np.savetxt(file, numbers, fmt=fmt)


if not TYPE_CHECKING:  # a type checker would take every name for a member

    def __getattr__(name: str) -> NoReturn:
        raise no_such_name(__name__, name, globals())
