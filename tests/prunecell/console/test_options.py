"""Messages of the library in the words of a command."""

import pytest

from prunecell.console.options import as_options

OPTIONS = {"key": "--key", "max_drop": "--max-drop", "max": "--max", "folder": "--out"}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("key='a' is illegal", "--key 'a' is illegal"),
        ("net.pth: key=3", "net.pth: --key 3"),
        ("choose by key=", "choose by --key"),
        ("give max_drop=, or key=.", "give --max-drop, or --key."),
        ("(max_drop=0.3)", "(--max-drop 0.3)"),
        ("exactly one of max_drop and max", "exactly one of --max-drop and max"),
        ("the key of a keyed monkey=1", "the key of a keyed monkey=1"),
        ("'key=1' and a/key=1 and -key=1", "'key=1' and a/key=1 and -key=1"),
        (
            "max_drop=2: tune(net, max_drop=1, key=f(max_drop=2))",
            "--max-drop 2: tune(net, max_drop=1, key=f(max_drop=2))",
        ),
        ("pc.tune(max_drop=1) or max_drop=2 (max_drop=3)", "pc.tune(max_drop=1) or --max-drop 2 (--max-drop 3)"),
        ("folder='x' is illegal: x/max_drop.pth, max_drop.pth", "--out 'x' is illegal: x/max_drop.pth, max_drop.pth"),
    ],
)
def test_arguments_become_options_and_nothing_else_does(message, told):
    assert as_options(message, OPTIONS) == told


def test_without_options_nothing_changes():
    assert as_options("key=1", {}) == "key=1"
