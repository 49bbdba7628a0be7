"""Scripts as users of N2D2 write them, on scikit-learn's digits."""

import math
import warnings

import pytest
import torch

import n2d2
from n2d2.activation import Rectifier
from n2d2.cells import Conv, DeepNetCell, Dropout, Fc, Pool2d, Sequence, Softmax
from n2d2.quantizer import PruneCell
from n2d2.solver import SGD
from n2d2.target import Score
from prunecell.data import digits

BATCH = 32


@pytest.fixture
def provider():
    torch.manual_seed(0)
    data = digits()
    database = n2d2.database.Numpy()
    for partition, (images, labels) in {
        "Learn": (data.train_images[:1000], data.train_labels[:1000]),
        "Validation": (data.train_images[1000:], data.train_labels[1000:]),
        "Test": (data.test_images, data.test_labels),
    }.items():
        database.load(list(images.numpy()), labels.tolist(), partition)
    return n2d2.provider.DataProvider(database, [8, 8, 1], batch_size=BATCH)


def network():
    torch.manual_seed(1)
    config = n2d2.ConfigSection(
        filler=n2d2.filler.He(), solver=SGD(learning_rate=0.1, momentum=0.9), activation=Rectifier()
    )
    return Sequence(
        [
            Conv(1, 8, kernel_dims=[3, 3], name="conv", **config),
            Pool2d(pool_dims=[2, 2], stride_dims=[2, 2], pooling="Max", name="pool"),
            Fc(8 * 3 * 3, 64, name="fc1", **config),
            Dropout(dropout=0.1, name="dropout"),
            Fc(64, 10, name="fc2", solver=SGD(learning_rate=0.1, momentum=0.9)),
        ]
    )


def prune(model, **options):
    for cell in model:
        if isinstance(cell, Conv | Fc):
            cell.quantizer = PruneCell(prune_filler="IterNonStruct", delta=1e-4, **options)


def test_the_loop_of_n2d2s_users_learns_and_prunes(provider):
    model, softmax, target = network(), Softmax(with_loss=True), Score(provider)
    prune(model, prune_mode="Gradual", threshold=0.6, start=0.1, gamma=0.1)
    database = provider.get_database()
    for epoch in range(8):
        provider.set_partition("Learn")
        model.learn()
        for _ in range(math.ceil(database.get_nb_stimuli("Learn") / BATCH)):
            x = provider.read_random_batch()
            x = model(x)
            x = softmax(x)
            x = target(x)
            x.back_propagate()
            x.update()
        for quantizer in model.quantizers().values():
            assert quantizer.get_current_threshold() == pytest.approx(min(0.6, 0.1 * (epoch + 2)))
    target.clear_success()
    provider.set_partition("Test")
    model.test()
    for first in range(0, database.get_nb_stimuli("Test"), BATCH):
        target(softmax(model(provider.read_batch(first))))
    assert target.get_average_success() > 0.9
    for quantizer in model.quantizers().values():
        assert 0.6 <= 1 - quantizer.get_pruned_masks().mean() < 0.62


def test_iterating_the_provider_is_a_loop_too(provider):
    model, target = Sequence([network(), Softmax(with_loss=True)]), Score(provider)
    provider.set_reading_randomly(True)
    losses = []
    for _ in range(3):
        for stimuli in provider:
            loss = target(model(stimuli))
            loss.back_propagate()
            loss.update()
            losses.append(loss[0])
    assert sum(losses[-5:]) < sum(losses[:5]) / 3


def test_fit_and_run_test(provider, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the weights where the validation was best are written
    model = Sequence([*network(), Softmax(with_loss=True, name="softmax")]).to_deepnet_cell(provider)
    assert isinstance(model, DeepNetCell)
    prune(model, prune_mode="Static", threshold=0.5)
    model.fit(5)
    assert model.run_test() > 0.85
    printed = capsys.readouterr().out.splitlines()
    told = list(dict.fromkeys(line.split(":")[0] for line in printed))
    assert told == [*(f"epoch {i} of 5" for i in range(1, 6)), "test"]
    assert "validation" in printed[0]
    model.fit(1)  # a second time is no hindrance
    model.summary()
    assert "10" in capsys.readouterr().out


def test_files_go_round(tmp_path):
    model = network()
    prune(model, prune_mode="Static", threshold=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.export_free_parameters(tmp_path / "weights")
    other = network()
    for cell in other.get_cells().values():
        if isinstance(cell, Conv | Fc):
            cell.set_filler(n2d2.filler.Normal())
    prune(other, prune_mode="Static", threshold=0.5)
    other.import_free_parameters(tmp_path / "weights")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    for name, quantizer in model.quantizers().items():
        assert other[name].quantizer.get_pruned_masks() == quantizer.get_pruned_masks()
    alone = Fc(64, 10, name="fc2")
    alone.import_free_parameters(tmp_path / "weights")
    assert torch.equal(alone.weight, model["fc2"].weight)
    alone.export_free_parameters(tmp_path / "one")
    assert (tmp_path / "one" / "fc2_weights.syntxt").exists()


def test_names_that_are_not_here_are_refused_with_the_nearest():
    with pytest.raises(AttributeError, match="n2d2 has no 'cell'; did you mean 'cells'"):
        n2d2.cell  # noqa: B018 - reading it is the test
    with pytest.raises(AttributeError, match=r"n2d2.cells has no 'Convolution'"):
        n2d2.cells.Convolution  # noqa: B018
