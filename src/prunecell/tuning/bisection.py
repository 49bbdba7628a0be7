"""The next setting to try of one knob: a bisection for the smallest file that is still good enough."""

import math
from collections.abc import Sequence

CLOSE = 1.12
"""The search ends where the best setting and the next one that failed differ by less than this factor."""

MOST_STEPS = 4
"""Settings in one direction without an answer, after which it goes no further: each is a whole factor from the last."""


def next_knob(tried: Sequence[tuple[float, bool]], first: float, factor: float) -> float | None:
    """The setting to try next; None where the search has ended.

    Args:
        tried: (setting > 0, whether the model was good enough), in any order.
        first: > 0, where the search begins.
        factor: > 0 and not 1; the setting times this one makes a file that is clearly smaller.

    It goes on by the factor while all were good enough (or none was), then halves the gap between the best setting and
    the nearest one beyond it that failed, in the logarithm. A failure on the near side of the best one is noise.

    >>> next_knob([], 0.1, 0.5), next_knob([(0.1, True)], 0.1, 0.5), next_knob([(0.1, False)], 0.1, 0.5)
    (0.1, 0.05, 0.2)
    >>> next_knob([(0.16, True), (0.04, False)], 0.1, 0.5)
    0.08
    """
    if not tried:
        return first
    step = math.log(factor)
    places = [(math.log(knob) / step, passed) for knob, passed in tried]  # further: a smaller file
    best = max((place for place, passed in places if passed), default=None)
    worst = min((place for place, passed in places if not passed and (best is None or place > best)), default=None)
    if best is None or worst is None:
        if len(tried) > MOST_STEPS:
            return None
        place = worst - 1 if worst is not None else (best or 0.0) + 1
    else:
        if (worst - best) * abs(step) <= math.log(CLOSE):
            return None
        place = (best + worst) / 2
    return float(f"{math.exp(place * step):.3g}")  # as people write it
