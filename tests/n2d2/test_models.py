import torch

import n2d2
from n2d2.models.lenet import TABLE_1, LeNet


def test_lenet_is_that_of_the_paper():
    model = LeNet(10)
    weights = {name: cell.weight for name, cell in model.get_cells().items() if hasattr(cell, "weight")}
    assert [tuple(w.shape) for w in weights.values()] == [
        (6, 1, 5, 5),
        (16, 6, 5, 5),
        (120, 16, 5, 5),
        (84, 120),
        (10, 84),
    ]
    assert sum(map(sum, TABLE_1)) == 60
    assert int(model[2].connections.sum()) == 60 * 25
    assert [cell.get_type() for cell in model] == ["Conv", "Pool2d", "Conv", "Pool2d", "Conv", "Fc", "Fc", "Softmax"]


def test_scripts_may_put_one_more_softmax_behind():
    x = n2d2.Tensor.from_torch(torch.rand(2, 1, 32, 32))
    y = LeNet(4)(x)
    assert n2d2.cells.Softmax(with_loss=True)(y) is y
    torch.testing.assert_close(y.values.sum(1).flatten(), torch.ones(2))
