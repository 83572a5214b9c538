"""The CUDA source as a CPU library."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from latentcmp._runtime import abi

from .emulation import H100

HERE = Path(__file__).parent
CSRC = HERE.parent.parent / "csrc"
CUDA_HEADERS = ("cooperative_groups.h", "cuda_bf16.h", "cuda_fp16.h")
LAUNCH = re.compile(r"(\w+(?:<\w+, K>)?)<<<(\w+), (\w+), 0, stream>>>\((.*)\);")


@pytest.fixture(scope="session")
def emulated(tmp_path_factory):
    """The .cu files compiled with cuda_fibers.h instead of CUDA."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    folder = tmp_path_factory.mktemp("cuda_on_cpu")
    for part in ("include", "cuda"):
        shutil.copytree(CSRC / part, folder / part)
    for name in CUDA_HEADERS:
        (folder / name).touch()
    sources = [_as_cpp(path) for path in (folder / "cuda").glob("*.cu")]
    library = folder / "libemulated.so"
    flags = ["-O1", "-std=c++17", "-shared", "-fPIC", "-w", "-fvisibility=hidden", f"-I{folder}"]
    flags += ["-U_FORTIFY_SOURCE"]  # it reports a jump to another fiber as stack smashing
    subprocess.run([compiler, *flags, *map(str, sources), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    assert abi.difference(loaded, "cuda") == ""
    abi.declare(loaded, "cuda")
    return loaded


def _as_cpp(path):
    body = LAUNCH.sub(r"run_on_cpu(\2, \3, [&] { \1(\4); });", path.read_text())
    body = body.replace("extern __shared__ double memory[];", "double* memory = shared_memory();")
    path.with_suffix(".cpp").write_text(f'#include "{HERE / "cuda_fibers.h"}"\n{body}')
    return path.with_suffix(".cpp")


@pytest.fixture
def device(emulated):
    """Set the properties of the emulated device; those of an H100 again afterwards."""

    def describe(shared_bytes=H100, major=9, last_first=0):
        settings = {"shared_bytes": shared_bytes, "major": major, "last_first": last_first}
        for name, value in settings.items():
            ctypes.c_int.in_dll(emulated, f"emulated_{name}").value = value

    yield describe
    describe()
