import pytest
import torch

from n2d2.activation import ACTIVATIONS, Linear, Logistic, Rectifier, Saturation, Softplus, Swish, Tanh
from n2d2.cells import Conv, Fc
from n2d2.error_handler import ImplementationError, WrongInputType

X = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0])


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (Linear(), X),
        (Linear(clipping=1.0), X.clamp(-1, 1)),
        (Rectifier(), X.relu()),
        (Rectifier(leak_slope=0.1), torch.where(X > 0, X, 0.1 * X)),
        (Rectifier(leak_slope=0.1, clipping=1.0), torch.where(X > 0, X, 0.1 * X).clamp(max=1)),
        (Tanh(), X.tanh()),
        (Tanh(alpha=2.0), (2 * X).tanh()),
        (Logistic(), 1 / (1 + (-X).exp())),
        (Saturation(), X.clamp(-1, 1)),
        (Saturation(threshold=0.25), X.clamp(-0.25, 0.25)),
        (Softplus(), (1 + X.exp()).log()),
        (Swish(), X / (1 + (-X).exp())),
    ],
)
def test_formulas(activation, expected):
    torch.testing.assert_close(activation(X), expected)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_name_is_that_of_its_class(name):
    assert ACTIVATIONS[name]().get_type() == name
    assert str(ACTIVATIONS[name]()).startswith(f"{name}(")


def test_cells_apply_them():
    cell = Fc(5, 5, activation=Rectifier())
    assert (cell(X[None]) >= 0).all()
    cell.activation = Linear()
    assert (cell(X[None]) < 0).any() or (cell(-X[None]) < 0).any()


def test_only_activations_are_activations():
    with pytest.raises(WrongInputType, match="activation='Rectifier' is illegal: it must be one of Linear, Rectifier"):
        Conv(1, 1, [3, 3], activation="Rectifier")


@pytest.mark.parametrize("kind", ACTIVATIONS.values())
def test_outputs_keep_their_precision(kind):
    activation = kind()
    assert (activation.has_quantizer(), activation.get_quantizer(), activation.has_scaling()) == (False, None, False)
    activation.set_quantizer(None)
    told = f"quantizer of {kind.__name__} is refused: outputs keep their precision; a PruneCell goes on a cell"
    for use in (activation.set_quantizer, lambda value: kind(quantizer=value)):
        with pytest.raises(ImplementationError, match=told):
            use(1)
    with pytest.raises(TypeError, match=f"scaling of {kind.__name__} is refused"):  # N2D2's is a TypeError
        activation.scaling = 1


def test_illegal_parameters_are_refused_by_name():
    with pytest.raises(ValueError, match="leak_slope=-1 is illegal"):
        Rectifier(leak_slope=-1)
    with pytest.raises(ValueError, match="Tanh has no parameter 'leak_slope'"):
        Tanh(leak_slope=0.1)
