"""csrc/cuda compiled by nvcc without a GPU: no warnings, no spills, registers under a ceiling."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
KERNELS = {
    "cutoff_losses": 2,
    "gram_spectra": 2,
    "library": 0,
    "local_ridge": 2,
    "segment_cumulants": 8,
    "segment_cumulants_backward": 8,
    "small_svd": 2,
}
"""Least number of kernels in each file."""


def test_every_file_is_compiled():
    assert {path.stem for path in (CSRC / "cuda").glob("*.cu")} == set(KERNELS)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_compile_without_spills_under_a_register_ceiling(name, arch, tmp_path):
    command = ["nvcc", "-O3", "-std=c++17", f"-arch=sm_{arch}", "-cubin", "-Xptxas", "--warn-on-spills,-v"]
    command += ["-Werror", "all-warnings", str(CSRC / "cuda" / f"{name}.cu")]
    done = subprocess.run([*command, "-o", str(tmp_path / "out.cubin")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = [int(count) for count in re.findall(r"Used (\d+) registers", done.stderr)]
    stacks = [int(size) for size in re.findall(r"(\d+) bytes stack frame", done.stderr)]
    assert len(used) >= KERNELS[name]
    assert max(used, default=0) <= 128  # four blocks of 128 threads on every multiprocessor
    assert sum(stacks) == 0
