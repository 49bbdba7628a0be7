"""Steps: how many the optimizers have made, and how many of them the Pruner or Quantizer was told of."""

from dataclasses import dataclass, field


@dataclass(eq=False)
class Steps:
    """How many steps each attached optimizer has made, and how often the keeper was told of one, by its `step`.

    They are of this process: a state that is loaded, and a copy, begin with none.

    Attributes:
        n_told: how often it was told.
        n_untold: steps of all optimizers since then, but those within another's.

    >>> steps, optimizer = Steps(), object()
    >>> for _ in range(3):
    ...     steps.count(optimizer)
    >>> steps.tell()
    >>> steps.untold("pruner", n_counted=1)
    'pruner.step(n_samples) was called once in 3 steps of the optimizer: call it after each'
    """

    n_told: int = 0
    n_untold: int = 0
    _n_made: dict[int, int] = field(default_factory=dict)

    def count(self, optimizer: object, *, nested: bool = False) -> None:
        """One more was made; `nested`: as a part of that of an optimizer that wraps this one."""
        self._n_made[id(optimizer)] = self._n_made.get(id(optimizer), 0) + 1
        self.n_untold += not nested

    def tell(self) -> None:
        """The keeper is told of one."""
        self.n_told += 1
        self.n_untold = 0

    def untold(self, keeper: str, *, n_counted: int) -> str:
        """What to say where it was told less often than steps were made, or never; empty otherwise.

        Args:
            keeper: what the user calls it.
            n_counted: steps on its clock, in other processes too. Where it has some, and none was made here, as after
                a state was loaded, nothing was left out.
        """
        n_made = max(self._n_made.values(), default=0)
        if self.n_told >= n_made and (self.n_told or n_counted):
            return ""
        often = {0: "never called", 1: "called once"}.get(self.n_told, f"called {self.n_told:,} times")
        made = f" in {n_made:,} step{'s' * (n_made != 1)} of the optimizer" if n_made else ""
        return f"{keeper}.step(n_samples) was {often}{made}: call it after each"
