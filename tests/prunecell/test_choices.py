"""Names become values, and what is no name is refused with what is legal."""

import pytest

from prunecell.choices import chosen
from prunecell.errors import OptionTypeError, UnknownNameError

TABLE = {"exact": 1, "fp16": 2, "int8": None}


@pytest.mark.parametrize("name", TABLE)
def test_a_name_gives_its_value(name):
    assert chosen("values", name, TABLE) is TABLE[name]


def test_the_nearest_name_is_offered():
    with pytest.raises(
        UnknownNameError, match=r"^values='fp17' is illegal; did you mean 'fp16'\? Legal: exact, fp16, int8$"
    ):
        chosen("values", "fp17", TABLE)


@pytest.mark.parametrize("value", [3, None, ["exact"], {}])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(OptionTypeError, match=r"^values=.* is illegal: it must be a name. Legal: exact, fp16, int8$"):
        chosen("values", value, TABLE)
