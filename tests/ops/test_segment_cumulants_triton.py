"""The Triton kernels in Triton's interpreter, against scipy."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_the_kernels_agree_with_scipy_in_the_interpreter():
    script = Path(__file__).parent / "triton_interpreted.py"
    paths = os.pathsep.join([str(script.parent), *sys.path])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "all agree", done.stderr[-3000:]
