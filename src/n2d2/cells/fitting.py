"""How a DeepNetCell learns, is validated and tested: N2D2's `fit` and `run_test`, and what their options do."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from n2d2.checked import Checked
from n2d2.error_handler import ImplementationError, WrongValue, n2d2_errors
from n2d2.fields import choice, count, flag
from n2d2.metrics import LOWER_IS_BETTER, METRICS, average_score
from n2d2.warning import warn_caller
from prunecell.checks import check_count

BEST = "weights_validation"
"""The folder, in the working folder, of the weights where the validation was best."""

KERNELS = "the weights are text after export_free_parameters(dir_name)"
QUANTIZED = "nothing is quantized; prunecell.save writes small files"

IDLE: Mapping[str, tuple[Any, str]] = {
    "log_kernels": (False, KERNELS),
    "qat_sat": (False, QUANTIZED),
    **dict.fromkeys(("wt_round_mode", "b_round_mode", "c_round_mode"), ("NONE", QUANTIZED)),
    "act_scaling_mode": ("FLOAT_MULT", QUANTIZED),
    "log_JSON": (False, "results are .dat tables, see log_confusion_matrix"),
    "log_outputs": (0, "get_outputs() of each cell has what it gave last"),
}
"""Options that are refused but for their default: it, and what to use instead."""


class Learner(Protocol):
    """What is fitted: a DeepNetCell."""

    name: str
    provider: Any
    target: Any

    def learn(self) -> Any:  # noqa: ANN401 - itself
        """Switch to learning."""

    def test(self) -> Any:  # noqa: ANN401 - itself
        """Switch to testing."""

    def __call__(self, *inputs: Any) -> Any:  # noqa: ANN401
        """The output for a batch."""

    def export_free_parameters(self, dir_name: str | Path, verbose: bool = True) -> None:  # noqa: FBT001, FBT002
        """Write its weights."""


def check_idle(owner: str, given: Mapping[str, Any]) -> None:
    """Refuse what is asked for by another value than the default.

    Raises:
        ImplementationError: one of IDLE is.
    """
    for name, value in given.items():
        default, instead = IDLE[name]
        if value != default:
            raise ImplementationError(f"{name}={value!r} of {owner} is refused: {instead}")


def n_stimuli(net: Learner, partition: str) -> int:
    """How many stimuli the network's provider has in a partition.

    Raises:
        WrongValue: it has no provider, or one without a database.
    """
    if net.provider is None:
        raise WrongValue(f"{net.name!r} has no provider: set_provider() gives it one")
    database = getattr(net.provider, "database", None)
    if database is None:
        raise WrongValue(
            f"{net.name!r} reads from a {type(net.provider).__name__}, which has no database: set a DataProvider"
        )
    return int(database.get_nb_stimuli(partition))


@dataclass(kw_only=True)
class Fit(Checked):
    """The options of `DeepNetCell.fit`, which says what they do."""

    learn_epoch: int = count(0)
    log_epoch: int = count(1)
    avg_window: int = count(10_000, low=1)
    bench: bool = flag(default=False)
    ban_multi_device: bool = flag(default=False)
    valid_metric: str = choice(*METRICS)
    stop_valid: int = count(0)


def fit(net: Learner, options: Fit) -> None:
    """Learn; see `DeepNetCell.fit`."""
    n, provider, target = n_stimuli(net, "Learn"), net.provider, net.target
    if not n:
        raise WrongValue(f"partition Learn of {provider.database} is empty: there is nothing to learn from")
    n_batches = max(1, options.avg_window // provider.get_batch_size())
    best, n_lower = -math.inf, 0
    for epoch in range(1, options.learn_epoch + 1):
        provider.set_partition("Learn")
        net.learn()
        target.clear_success()
        start, window = time.perf_counter(), deque([(0.0, 0)], maxlen=n_batches + 1)
        for _ in range(math.ceil(n / provider.get_batch_size())):
            loss = target(net(provider.read_random_batch()))
            loss.back_propagate()
            loss.update()
            window.append(_counted(target))
        if epoch != options.learn_epoch and (not options.log_epoch or epoch % options.log_epoch):
            continue
        (right_before, seen_before), (right, seen) = window[0], window[-1]
        success = (right - right_before) / max(seen - seen_before, 1)
        told = f"epoch {epoch} of {options.learn_epoch}: loss {target.average_loss():.4f}, success {success:.2%}"
        if options.bench:
            told += f", {n / (time.perf_counter() - start):,.0f} stimuli per second"
        score = _validated(net, options.valid_metric)
        if score is None:
            print(told)  # noqa: T201 - N2D2 prints
            continue
        value = -score if options.valid_metric in LOWER_IS_BETTER else score
        is_best = value > best
        best, n_lower = max(best, value), 0 if is_best else n_lower + 1
        if is_best:
            net.export_free_parameters(BEST, verbose=False)
        kept = f", in {BEST}/" if is_best else ""
        print(f"{told}, validation {score:.2%} ({options.valid_metric}{kept})")  # noqa: T201
        if options.stop_valid and n_lower >= options.stop_valid:
            print(f"stopped: {n_lower} validations were no better than the best")  # noqa: T201
            return


def _counted(target: Any) -> tuple[float, int]:  # noqa: ANN401 - any target
    """How many stimuli were right, and how many were seen."""
    seen = int(target.get_confusion_matrix().sum())
    return target.get_average_success() * seen, seen


def _validated(net: Learner, metric: str) -> float | None:
    """The score of the validation partition; None where it has no stimuli."""
    n = n_stimuli(net, "Validation")
    if not n:
        return None
    _measure(net, "Validation", 0, n, lambda _: None)
    return average_score(net.target.get_confusion_matrix(), metric)


def run_test(net: Learner, *, log: int, report: int, nb_test: int, test_index: int, test_id: int) -> float:
    """Test; see `DeepNetCell.run_test`."""
    with n2d2_errors():
        check_count("log", log, low=1)
        check_count("report", report, low=1)
        for name, value in (("nb_test", nb_test), ("test_index", test_index), ("test_id", test_id)):
            check_count(name, value, low=-1)
    n = n_stimuli(net, "Test")
    if not n:
        raise WrongValue(f"the test partition has no stimuli: partition Test of {net.provider.database} is empty")
    first, n_chosen = _chosen(net, n, nb_test, test_index, test_id)
    seen, told = 0, net.target.get_average_success

    def tell(n_now: int) -> None:
        nonlocal seen
        before, seen = seen, seen + n_now
        if seen // log > before // log:
            print(f"test: {seen} of {n_chosen}, success {told():.2%}")  # noqa: T201
        elif seen // report > before // report:
            print(f"test: {seen} of {n_chosen}, success {told():.2%}", end="\r")  # noqa: T201

    _measure(net, "Test", first, n_chosen, tell)
    print(f"test: success {told():.2%} of {n_chosen}")  # noqa: T201
    return float(told())


def _chosen(net: Learner, n: int, nb_test: int, test_index: int, test_id: int) -> tuple[int, int]:
    """The first stimulus of the test partition that is measured, and how many."""
    if nb_test >= 0 and max(test_index, test_id) >= 0:
        raise WrongValue(f"nb_test={nb_test} is illegal beside test_index or test_id, which test one stimulus")
    if not nb_test:
        raise WrongValue("nb_test=0 is illegal: it must be a number of stimuli >= 1, or -1 for all")
    if test_id >= 0:
        ids = [int(one) for one in net.provider.database.indices("Test")]
        if test_id not in ids:
            raise WrongValue(f"test_id={test_id} is illegal: partition Test has no such stimulus")
        return ids.index(test_id), 1
    if test_index >= n:
        raise WrongValue(f"test_index={test_index} is illegal: partition Test has stimuli 0 to {n - 1}")
    if nb_test > n:
        warn_caller(f"nb_test={nb_test} is more than there are: all {n} stimuli of partition Test are tested")
    return (test_index, 1) if test_index >= 0 else (0, n if nb_test < 0 else min(n, nb_test))


@torch.no_grad()
def _measure(net: Learner, partition: str, first: int, n_chosen: int, tell: Callable[[int], None]) -> None:
    """Count these stimuli of a partition anew; tell how many each batch had."""
    provider, target = net.provider, net.target
    provider.set_partition(partition)
    net.test()
    target.clear_success()
    size = provider.get_batch_size()
    for start in range(first, first + n_chosen, size):
        n = min(size, first + n_chosen - start)
        target(net(provider.read_stimuli(start, n)))
        tell(n)
