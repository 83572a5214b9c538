"""What the tests of all operators share."""

import os
import subprocess
import sys

import pytest

from latentcmp._runtime import backends

NARROWED = """
import torch
from latentcmp._runtime import native
used = native.load("cpu")[0].lc_cpu_instruction_set().decode()
assert used in ({!r}, "baseline"), used
"""


@pytest.fixture(params=["cpu", "reference"])
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend that runs on a CPU; under LATENTCMP_REQUIRE_NATIVE a missing one fails."""
    return _there(request.param)


@pytest.fixture(params=["baseline", "avx2"])
def run_narrowed(request: pytest.FixtureRequest, tmp_path):
    """Runs code in tmp_path, away from the checkout, with kernels for an instruction set older than this machine's."""
    _there("cpu")
    environment = os.environ | {"LATENTCMP_ISA": request.param, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(code: str) -> None:
        command = [sys.executable, "-c", NARROWED.format(request.param) + code]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)

    return run


def _there(backend: str) -> str:
    reason = backends.why_missing(backend)
    if reason and os.environ.get("LATENTCMP_REQUIRE_NATIVE") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    return backend
