import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from n2d2 import Tensor
from n2d2.cells import Fc, Sequence, Softmax
from n2d2.error_handler import ImplementationError, NotInitialized, UndefinedParameterError, WrongInputType, WrongValue
from n2d2.metrics import METRICS
from n2d2.solver import SGD
from n2d2.target import Score, squared_error


class Provider:
    """One batch, always the same."""

    partition = "Learn"
    epoch_size = 4

    def __init__(self):
        self.x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
        self.labels = torch.tensor([0, 1, 2, 1])

    def read(self):
        return Tensor.from_torch(self.x, source=self)

    def get_labels(self):
        return self.labels


def net(*, with_loss):
    torch.manual_seed(0)
    cells = [Fc(6, 3, solver=SGD(learning_rate=0.5)), *([Softmax(with_loss=True)] if with_loss else [])]
    return Sequence(cells)


@pytest.mark.parametrize("training", [True, False])
def test_cross_entropy_after_a_softmax_with_loss(training):
    provider, model = Provider(), net(with_loss=True).train(training)
    target = Score(provider)
    loss = target(model(provider.read()))
    expected = F.cross_entropy(model[0](provider.x), provider.labels).item()
    assert loss[0] == target.loss() == pytest.approx(expected, rel=1e-6)


def test_squared_error_otherwise():
    provider, model = Provider(), net(with_loss=False)
    target = Score(provider, target_value=1.0, default_value=-1.0)
    loss = target(model(provider.read()))
    scores = model(provider.x)
    wanted = 2 * F.one_hot(provider.labels, 3) - 1.0
    assert loss[0] == pytest.approx(((scores - wanted) ** 2).sum().item() / 8, rel=1e-6)


def test_the_gradient_of_the_squared_error_is_the_difference():
    scores = torch.randn(1, 3, requires_grad=True)
    squared_error(scores, torch.tensor([2])).backward()
    torch.testing.assert_close(scores.grad, scores.detach() - torch.tensor([[0.0, 0.0, 1.0]]))


def test_huge_scores_still_teach():
    provider, model = Provider(), net(with_loss=True)
    provider.x *= 1e4
    loss = Score(provider)(model(provider.read()))
    assert math.isfinite(loss[0])
    loss.back_propagate()
    assert model[0].weight.grad.abs().max() > 1


@pytest.mark.parametrize("with_loss", [True, False])
def test_a_script_learns(with_loss):
    provider, model = Provider(), net(with_loss=with_loss)
    target = Score(provider)
    losses = []
    for _ in range(50):
        x = model(provider.read())
        x = target(x)
        x.back_propagate()
        x.update()
        losses.append(target.loss())
    assert losses[-1] < losses[0] / 2
    assert target.losses == losses
    target.clear_success()
    target(model.test()(provider.read()))
    assert target.get_average_success() == 1


def test_success_is_counted_by_partition_until_it_is_cleared():
    provider = Provider()
    target = Score(provider)
    scores = torch.tensor([[3.0, 2, 1], [3, 2, 1], [3, 2, 1], [1, 2, 3]])
    target(Tensor.from_torch(scores))
    assert target.get_average_success() == 0.25
    provider.partition = "Test"
    assert target.get_average_success() == 0
    target(Tensor.from_torch(F.one_hot(provider.labels, 3).float()))
    assert target.get_average_success() == 1
    target.clear_success()
    assert target.get_average_success() == 0
    assert math.isnan(target.average_loss())


def test_the_mean_loss_is_that_of_the_stimuli_in_whatever_batches_they_come():
    target = Score(Provider())
    for labels, loss in (([0, 1, 1], 1.0), ([2], 5.0), ([0, -1], 3.0), ([-1], math.nan)):
        target.count(torch.zeros(len(labels), 3), torch.tensor(labels), loss)
    assert target.average_loss() == (3 * 1 + 5 + 3) / 5


def test_top_n():
    provider = Provider()
    target = Score(provider, top_n=2)
    target(Tensor.from_torch(torch.tensor([[3.0, 2, 1], [3, 2, 1], [3, 2, 1], [1, 2, 3]])))
    assert target.get_average_success() == 0.25
    assert target.get_average_top_n_success() == 0.75
    target.top_n = 4
    with pytest.raises(WrongValue, match=r"top_n=4 is illegal: Score_\d+ got 3 outputs"):
        target(Tensor.from_torch(torch.eye(4)[:, :3]))


def test_the_success_of_the_last_batches():
    provider = Provider()
    target = Score(provider, top_n=2)
    right = F.one_hot(provider.labels, 3).float()
    for scores in (right, right, right.roll(1, 1) * 2 + right, right):
        target(Tensor.from_torch(scores))
    successes = [target.get_average_success(window) for window in (0, 1, 2, 3, 4, 9)]
    assert successes == pytest.approx([0.75, 1, 0.5, 2 / 3, 0.75, 0.75])
    assert target.get_average_top_n_success(2) > target.get_average_success(2)
    with pytest.raises(WrongValue, match="window=-1 is illegal: it must be a whole number >= 0"):
        target.get_average_success(-1)


def test_clearing_is_for_the_current_partition():
    provider = Provider()
    target = Score(provider)
    for partition in ("Learn", "Validation"):
        provider.partition = partition
        target(Tensor.from_torch(F.one_hot(provider.labels, 3).float()))
    target.clear_success()
    assert (target.get_average_success(), target.get_average_success(1)) == (0, 0)
    provider.partition = "Learn"
    assert target.get_average_success() == 1
    target.clear_score()
    assert target.get_confusion_matrix().size == 0


def test_losses_are_kept_for_all_batches():
    provider, target = Provider(), Score(Provider())
    with pytest.raises(NotInitialized, match=r"Score_\d+ has no loss yet"):
        target.loss()
    for _ in range(2):
        target(net(with_loss=True)(provider.read()))
    assert len(target.get_loss()) == 2
    assert target.get_loss()[-1] == target.get_current_loss() == target.loss()


def test_scores_are_n2d2s():
    """By hand, for the classes 0, 1, 2: right 3 of 4, 4 of 4, 0 of 2; the fourth class is nowhere."""
    provider = Provider()
    provider.labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    taken = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 1, 0])
    target = Score(provider)
    assert target.get_average_score("Sensitivity") == 0
    target(Tensor.from_torch(F.one_hot(taken, 4).float()))
    sensitivity, specificity = np.array([3 / 4, 1, 0]), np.array([5 / 6, 4 / 6, 1])
    precision, negative = np.array([3 / 4, 4 / 6, 0]), np.array([5 / 6, 1, 8 / 10])
    expected = {
        "Sensitivity": sensitivity,
        "Specificity": specificity,
        "Precision": precision,
        "NegativePredictiveValue": negative,
        "MissRate": 1 - sensitivity,
        "FallOut": 1 - specificity,
        "FalseDiscoveryRate": 1 - precision,
        "FalseOmissionRate": 1 - negative,
        "Accuracy": np.array([8, 8, 8]) / 10,
        "F1Score": np.array([6 / 8, 8 / 10, 0]),
        "Informedness": sensitivity + specificity - 1,
        "Markedness": precision + negative - 1,
        "IU": np.array([3 / 5, 4 / 6, 0]),
    }
    assert expected.keys() == METRICS.keys()
    for name, values in expected.items():
        assert target.get_average_score(name) == pytest.approx(values.mean()), name
    with pytest.raises(WrongValue, match="metric='F1score' is illegal; did you mean 'F1Score'"):
        target.get_average_score("F1score")


def test_a_class_that_others_were_taken_for_counts_though_it_has_no_stimuli():
    provider = Provider()
    provider.labels = torch.tensor([0, 0])
    target = Score(provider)
    target(Tensor.from_torch(F.one_hot(torch.tensor([0, 1]), 3).float()))
    assert target.get_average_score("Sensitivity") == 0.25


def test_one_output_tells_two_classes_apart():
    provider = Provider()
    provider.labels = torch.tensor([0, 1, 1, 0])
    scores = torch.tensor([[0.1], [0.9], [0.4], [0.6]])
    target = Score(provider)
    loss = target(Tensor.from_torch(scores))
    assert loss[0] == pytest.approx((0.01 + 0.01 + 0.36 + 0.36) / 8)
    assert target.get_confusion_matrix().tolist() == [[1, 1], [1, 1]]
    assert Score(provider, binary_threshold=0.3).binary_threshold == 0.3


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((3, 3), [0, 1, 2, 1], r"got the output of 3 stimuli, and its provider gave 4 labels last"),
        ((4, 3), [0, 1, 2, 3], r"got the label 3: the network has outputs for the labels 0 to 2"),
        ((4, 3), [0, 1, -2, 1], r"got the label -2"),
        ((4, 1), [0, 1, 2, 1], r"got the label 2: the network has outputs for the labels 0 to 1"),
        ((4, 3, 2, 2), [0, 1, 2, 1], r"takes one value for each class, \[batch, classes, 1, 1\], not \[4, 3, 2, 2\]"),
        ((3,), [0, 1, 2], r"takes one value for each class"),
        ((4, 3), [], r"its provider gave 0 labels last"),
    ],
)
def test_an_output_that_does_not_fit_the_labels_is_told_and_nothing_is_counted(shape, labels, message):
    provider = Provider()
    provider.labels = torch.tensor(labels, dtype=torch.int64)
    target = Score(provider)
    with pytest.raises(WrongValue, match=message):
        target(Tensor.from_torch(torch.zeros(shape)))
    assert target.get_loss() == []
    assert target.state_dict() == {}


def test_names_and_parameters():
    first, second = Score(Provider()), Score(Provider(), name="softmax.Target", top_n=3)
    assert first.get_name().startswith("Score_")
    assert str(second) == second.get_name() == "softmax.Target"
    assert second.get_parameter("top_n") == second.top_n == 3
    second.set_parameter("top_n", 2)
    assert second.options.top_n == 2
    told = "Score has no parameter 'topn'; did you mean 'top_n'"
    for use in (second.get_parameter, lambda name: getattr(second, name), lambda name: setattr(second, name, 1)):
        with pytest.raises(UndefinedParameterError, match=told):
            use("topn")
    assert first.get_deepnet() is None


def test_logs_have_n2d2s_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("n2d2.target.can_draw", lambda: False)
    target = Score(Provider(), name="net.Target")
    with pytest.raises(NotInitialized, match=r"net\.Target has no labels yet"):
        target.log_estimated_labels("labels")
    with pytest.raises(NotInitialized, match=r"net\.Target has counted nothing in \w+ yet"):
        target.log_confusion_matrix("empty")
    with pytest.raises(NotInitialized, match=r"net\.Target has no statistics yet"):
        target.log_stats("stats")
    scores = torch.tensor([[3.0, 2, 1], [3, 2, 1], [3, 2, 1], [1, 2, 3]])
    for _ in range(2):
        target(Tensor.from_torch(scores))
    target.log_confusion_matrix("test")
    target.log_success("test")
    target.log_estimated_labels("labels")
    assert {str(path) for path in target_files()} == {
        "net.Target/ConfusionMatrix_test.dat",
        "net.Target/Success_test.dat",
        "net.Target/labels/classif.log",
    }
    lines = (tmp_path / "net.Target/labels/classif.log").read_text().splitlines()
    assert lines[0] == "0 0 3 3 2 1"
    assert lines[3] == "1 2 3 1 2 3"


def target_files():
    return (path for path in Path().rglob("*") if path.is_file())


def test_stimuli_without_a_label_count_for_nothing():
    provider, model = Provider(), net(with_loss=True)
    known = Score(provider)(model(provider.read()))[0]
    provider.labels = torch.cat([provider.labels, torch.tensor([-1])])
    provider.x = torch.cat([provider.x, torch.ones(1, 6)])
    target = Score(provider)
    assert target(model(provider.read()))[0] == pytest.approx(known)
    assert target.get_confusion_matrix().sum() == 4
    squared = Score(provider)(net(with_loss=False)(provider.read()))
    assert math.isfinite(squared[0])


def test_pictures(tmp_path):
    provider = Provider()
    target = Score(provider)
    target(net(with_loss=True)(provider.read()))
    target.log_confusion_matrix(tmp_path / "logs" / "confusion")
    target.log_success(tmp_path / "success")
    for name in ("logs/confusion", "success"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    matrix = np.loadtxt(tmp_path / "logs" / "confusion.dat")
    assert matrix.sum(1).tolist() == [1, 2, 1]
    assert np.loadtxt(tmp_path / "success.dat") == pytest.approx(target.loss(), rel=1e-5)


def test_statistics_of_the_cells(tmp_path):
    provider, network = Provider(), net(with_loss=True)
    target = Score(provider)
    target(network(provider.read()))
    target.log_stats(tmp_path / "stats" / "net")
    lines = (tmp_path / "stats" / "net.log").read_text().splitlines()
    assert [line.split()[0] for line in lines[2 : 2 + len(network)]] == [cell.name for cell in network]
    assert f"Total parameters: {sum(p.numel() for p in network.parameters())}" in lines


def test_illegal_arguments_are_refused_by_name():
    with pytest.raises(WrongInputType, match=r"takes the n2d2.Tensor of a network, not a Tensor"):
        Score(Provider())(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="no parameter 'topn'; did you mean 'top_n'"):
        Score(Provider(), topn=2)
    with pytest.raises(ValueError, match="top_n=0 is illegal"):
        Score(Provider(), top_n=0)
    for arguments, told in {
        (3,): "provider=3 is illegal: it must be a DataProvider",
        (): "provider is missing; it is Score",
        (Provider(), 3): "name=3 is illegal: it must be a string, not a int",
    }.items():
        with pytest.raises(WrongInputType, match=told):
            Score(*arguments)
    for log in (Score.log_success, Score.log_confusion_matrix):
        with pytest.raises(WrongInputType, match="a log needs a name, which is a string, not a int"):
            log(Score(Provider()), 3)
    with pytest.raises(WrongInputType, match=r"takes the n2d2.Tensor of a network, not a NoneType"):
        Score(Provider())()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_as_target": True}, "data_as_target=True is refused"),
        ({"labels_mapping": "labels.dat"}, "labels_mapping='labels.dat' is refused: labels are the outputs"),
        ({"masked_label": 1}, "masked_label=1 is refused: it is for segmentation"),
    ],
)
def test_what_is_not_about_classification_is_refused_by_name(options, message):
    with pytest.raises(ImplementationError, match=message):
        Score(Provider(), **options)


@pytest.mark.parametrize("method", ["process", "provide_targets", "log_estimated_labels_json", "N2D2"])
def test_methods_that_are_refused_say_what_to_use(method):
    with pytest.raises(ImplementationError, match=f"Score.{method} is refused: |Target.{method} is refused: "):
        getattr(Score(Provider()), method)()
