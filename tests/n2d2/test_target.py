import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from n2d2 import Tensor
from n2d2.cells import Fc, Sequence, Softmax
from n2d2.error_handler import WrongInputType
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
    assert target.get_average_success() == 0.75


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
