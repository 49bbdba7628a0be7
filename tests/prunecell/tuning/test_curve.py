"""The picture of the trade-off."""

import math

import pytest

from prunecell.described import shown
from prunecell.tuning.curve import draw_curve, look_of
from prunecell.tuning.strategies import STRATEGIES
from prunecell.tuning.trials import Trial


def trial(number, n_bytes, quality):
    return Trial(
        number=number,
        strategy=f"Way({number % 3})",
        knob=0.1,
        n_bytes=n_bytes,
        quality=quality,
        passed=True,
        stopped="",
        seconds=0.0,
        file="",
        recipe="",
    )


def test_it_is_drawn_whatever_the_trials_came_to(tmp_path, monkeypatch):
    monkeypatch.setattr("prunecell.tuning.curve.can_draw", lambda: True)
    few = [trial(0, 1000, 0.9)]
    many = [*few, trial(1, 100, 0.5), trial(2, None, math.nan), trial(3, 50, math.nan), trial(4, 200, 0.9)]
    for name, trials in ("few", few), ("many", many):
        path = tmp_path / f"{name}.png"
        draw_curve(path, trials, least=0.8, label="accuracy", dense_bytes=5000)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_every_strategy_has_a_look_of_its_own():
    looks = {look_of(shown(one)) for one in STRATEGIES} | {look_of("dense")}
    assert len({color for color, _ in looks}) == len({marker for _, marker in looks}) == len(STRATEGIES) + 1
    assert not looks & {look_of("Mine()"), look_of("Another(knob=3)")}


@pytest.mark.parametrize("others", [(), (0, 1), (2,)], ids=len)
def test_a_look_hangs_on_no_other_strategy(others, monkeypatch, tmp_path):
    drawn = {}

    class Axes:
        """What plots in the place of matplotlib."""

        def __getattr__(self, _):
            return lambda *_, **__: Axes()

        def plot(self, *points, label="", color=None, **_):
            drawn[label] = color, points[-1]

    class Figure(Axes):
        """Writes nothing."""

        def savefig(self, file, **_):
            file.write(b"drawn")

        def add_subplot(self):
            return Axes()

    monkeypatch.setattr("prunecell.tuning.curve.can_draw", lambda: True)
    monkeypatch.setattr("prunecell.tuning.curve.new_figure", lambda *_: Figure())
    monkeypatch.setattr("prunecell.tuning.curve.plain_ticks", lambda _: None)
    trials = [trial(n, 100 + n, 0.9) for n in (*others, 4)]
    draw_curve(tmp_path / "a.png", trials, least=0.8, label="accuracy", dense_bytes=5000)
    assert drawn[trials[-1].strategy] == look_of(trials[-1].strategy)
