"""The picture of the trade-off."""

import math

from prunecell.tuning.curve import draw_curve
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
