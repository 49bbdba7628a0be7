"""Training: a loop that can be killed anywhere, and what pruning asks of a loop.

accuracy    evaluate
rehearsal   whether an optimizer can go on with a state that was loaded
checkpoint  the file from which a run goes on
progress    where a run is
given       what fit refuses
fitting     fit
losses      distillation
averaging   the average of weights under masks
rewinding   rounds of pruning from an early state
"""

from prunecell.training.accuracy import evaluate
from prunecell.training.checkpoint import Checkpoint
from prunecell.training.fitting import Task, fit
from prunecell.training.losses import distillation
from prunecell.training.rewinding import Rewind

__all__ = ["Checkpoint", "Rewind", "Task", "distillation", "evaluate", "fit"]
