"""The compiled kernels: which library runs on this CPU, how it is called, on how many threads.

load      which library runs on this CPU
structs   how its functions are called
threads   the threads that share the work of a call
sources   the C++ files that it is built from
"""

from prunecell.native.load import ENVIRONMENT, LEVELS, cpu_level, has_vnni, library, library_of
from prunecell.native.sources import SOURCE
from prunecell.native.structs import (
    ACTIVATIONS,
    CONVOLUTION,
    LINEAR,
    POOLING,
    Chain,
    Frame,
    Geometry,
    Grid,
    Latents,
    Link,
    Matrix,
    Packed,
    Pooling,
    Team,
)
from prunecell.native.threads import n_threads, team

__all__ = [
    "ACTIVATIONS",
    "CONVOLUTION",
    "ENVIRONMENT",
    "LEVELS",
    "LINEAR",
    "POOLING",
    "SOURCE",
    "Chain",
    "Frame",
    "Geometry",
    "Grid",
    "Latents",
    "Link",
    "Matrix",
    "Packed",
    "Pooling",
    "Team",
    "cpu_level",
    "has_vnni",
    "library",
    "library_of",
    "n_threads",
    "team",
]
