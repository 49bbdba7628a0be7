"""The picture of a run: all of every point is drawn."""

import pytest
from matplotlib.figure import Figure

from prunecell.report.picture import draw_run


@pytest.mark.parametrize("n_epochs", [1, 10, 2.5])
def test_points_at_the_edges_are_not_cut(tmp_path, monkeypatch, n_epochs):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    accuracies = {"dense": [(1, 0.5)], "pruned": [(0, 0.4), (n_epochs, 0.9)], "integers": [(n_epochs, 0.8)]}
    sparsity = [(0, 0.0), (1, 0.5)]
    draw_run(tmp_path / "run.png", title="net", sparsity=sparsity, accuracies=accuracies, n_epochs=n_epochs)
    left, right = drawn[0].axes
    assert left.get_xlim() == (0, n_epochs)
    assert len(right.lines) == 3
    assert not any(line.get_clip_on() for line in right.lines)
