import pytest

import n2d2
from n2d2.cells import Fc
from n2d2.error_handler import ImplementationError


def test_names_are_counted_by_class_with_those_of_cells():
    first, second = n2d2.generate_name([]), n2d2.utils.generate_name([])
    assert first.partition("_")[0] == "list"
    assert int(second.partition("_")[2]) == int(first.partition("_")[2]) + 1
    n = int(Fc(2, 2).name.partition("_")[2])
    assert n2d2.generate_name(Fc(2, 2, name="own")) == f"Fc_{n + 1}"


def test_a_network_is_logged(tmp_path):
    n2d2.model_logger(Fc(2, 2, name="fc"), f"{tmp_path}/log/", {"loss: ": 0.5, "epoch: ": 2})
    assert (tmp_path / "log/fc_weights.syntxt").exists()
    assert (tmp_path / "log/log.txt").read_text() == "loss: 0.5\nepoch: 2\n"
    n2d2.utils.model_logger(Fc(2, 2, name="fc"), tmp_path / "plain")
    assert not (tmp_path / "plain/log.txt").exists()


@pytest.mark.parametrize(
    "name",
    ["download", "check_types", "inherit_init_docstring", "add_docstring", "template_docstring", "methdispatch"],
)
def test_what_is_refused_says_so_when_it_is_used(name):
    assert getattr(n2d2, name) is getattr(n2d2.utils, name)
    with pytest.raises(ImplementationError, match=rf"n2d2\.utils\.{name} is refused: "):
        getattr(n2d2, name)("https://example.org/net.onnx", "models", "net")


def test_there_is_nothing_to_convert():
    with pytest.raises(ImplementationError, match=r"n2d2\.converter\.from_N2D2_object is refused"):
        n2d2.converter.from_N2D2_object(None)
