"""What the tests of all operators share."""

import os

import pytest

from latentcmp import _backend


@pytest.fixture(params=["cpu", "reference"])
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend that runs on a CPU; under LATENTCMP_REQUIRE_NATIVE a missing one fails."""
    reason = _backend.why_missing(request.param)
    if reason and os.environ.get("LATENTCMP_REQUIRE_NATIVE") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    return request.param
