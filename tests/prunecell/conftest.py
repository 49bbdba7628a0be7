"""The compiled kernels at every level that this CPU runs, and the torch code that stands in for them."""

import os

import pytest

from prunecell import native


@pytest.fixture(
    scope="module", params=["none", *(name for name, rank in native.LEVELS.items() if rank <= native.cpu_level())]
)
def level(request):
    """All tests of a module that uses it run once a level."""
    before = os.environ.get(native.ENVIRONMENT)
    os.environ[native.ENVIRONMENT] = request.param
    native.library.cache_clear()
    yield request.param
    del os.environ[native.ENVIRONMENT]
    if before is not None:
        os.environ[native.ENVIRONMENT] = before
    native.library.cache_clear()
