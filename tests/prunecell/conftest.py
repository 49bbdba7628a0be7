"""The compiled kernels at every level that this CPU runs, and the torch code that stands in for them."""

import os

import pytest

from prunecell import kernels


@pytest.fixture(
    scope="module", params=["none", *(name for name, rank in kernels.LEVELS.items() if rank <= kernels.cpu_level())]
)
def level(request):
    """All tests of a module that uses it run once a level."""
    before = os.environ.get(kernels.ENVIRONMENT)
    os.environ[kernels.ENVIRONMENT] = request.param
    kernels.library.cache_clear()
    yield request.param
    del os.environ[kernels.ENVIRONMENT]
    if before is not None:
        os.environ[kernels.ENVIRONMENT] = before
    kernels.library.cache_clear()
