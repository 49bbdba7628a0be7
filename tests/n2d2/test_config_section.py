import pytest

from n2d2 import ConfigSection
from n2d2.activation import Rectifier
from n2d2.cells import Conv
from n2d2.error_handler import UndefinedParameterError


def test_each_cell_gets_objects_of_its_own():
    config = ConfigSection(activation=Rectifier(clipping=0.5), no_bias=True)
    one, two = Conv(1, 2, [3, 3], **config), Conv(1, 2, [3, 3], **config)
    assert one.activation == two.activation
    one.activation.clipping = 0.1
    assert two.activation.clipping == 0.5
    assert one.bias is None


def test_it_is_a_mapping_that_can_change():
    config = ConfigSection({"a": 1}, b=2)
    config["c"] = 3
    config.update(d=4)
    del config["a"]
    assert {**config} == {"b": 2, "c": 3, "d": 4}
    assert config.get("a", 5) == 5
    assert config.copy() == config == ConfigSection(config)
    assert dict(config | {"b": 0}) == {"b": 0, "c": 3, "d": 4}
    assert "c" in config
    with pytest.raises(KeyError, match=r"^this ConfigSection has no 'bb'; did you mean 'b'"):
        config["bb"]
    with pytest.raises(TypeError, match="a ConfigSection takes keywords or a mapping, not 3"):
        ConfigSection(3)


def test_values_by_name():
    config = ConfigSection(a=1, b=2)
    assert (config.a, config["b"], len(config), list(config)) == (1, 2, 2, ["a", "b"])
    assert str(config) == "ConfigSection(a=1, b=2)"
    with pytest.raises(UndefinedParameterError, match="has no 'c'"):
        config.c  # noqa: B018 - reading it is the test
