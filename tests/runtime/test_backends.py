"""What is chosen to run an operator, and what is said where something is missing."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from latentcmp._runtime import backends, native


@pytest.mark.parametrize(("columns", "fastest"), [(backends.NARROW - 1, "triton"), (backends.NARROW, "cuda")])
def test_the_fastest_of_those_there_is_chosen_by_width(monkeypatch, columns, fastest):
    monkeypatch.delenv("LATENTCMP_BACKEND", raising=False)
    monkeypatch.setitem(backends.PREFERRED, ("cuda", "narrow"), ("triton", "cuda", "reference"))
    monkeypatch.setitem(backends.PREFERRED, ("cuda", "wide"), ("cuda", "triton", "reference"))
    monkeypatch.setattr(backends, "why_missing", lambda name: "")
    assert backends.choose("cuda", None, backends.shape_class(columns)) == fastest
    monkeypatch.setattr(backends, "why_missing", lambda name: "not here" if name != "reference" else "")
    assert backends.choose("cuda", None, backends.shape_class(columns)) == "reference"


@pytest.mark.parametrize(
    ("capability", "words"), [((7, 5), "sm_80 on.*sm_75.*CUDAARCHS=75"), ((8, 0), "^$"), ((9, 0), "^$")]
)
def test_a_gpu_older_than_the_kernels_is_told_what_to_do(monkeypatch, capability, words):
    library = SimpleNamespace(lc_cuda_lowest_architecture=lambda: 80)
    monkeypatch.setattr(backends.native, "load", lambda kind: (library, ""))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert re.search(words, backends.why_missing.__wrapped__("cuda"))


@pytest.mark.skipif(bool(native.load("cuda")[1]), reason="the CUDA kernels are not built")
def test_the_kernels_know_for_which_gpus_they_were_built():
    asked = os.environ.get("CUDAARCHS", "80").split(";")
    assert native.library("cuda").lc_cuda_lowest_architecture() == min(int(name.split("-")[0]) for name in asked)


@pytest.fixture(scope="module")
def without_libraries(tmp_path_factory):
    """Runs Python where no compiled kernel is found, away from the checkout."""
    folder = tmp_path_factory.mktemp("empty")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LATENTCMP_")}
    environment |= {"LATENTCMP_LIB": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)

    return run


def test_without_compiled_kernels_the_reference_runs_and_forcing_them_says_why(without_libraries):
    script = (
        "import torch\n"
        "from latentcmp._runtime import backends\n"
        "from latentcmp.errors import InputError\n"
        "from latentcmp.ops import segment_cumulants\n"
        "print(backends.choose('cpu'))\n"
        "x, ptr = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 2])\n"
        "print(segment_cumulants(x, ptr, 2).flatten().tolist())\n"
        "try:\n"
        "    segment_cumulants(x, ptr, 2, backend='cpu')\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    result = without_libraries("-c", script)
    chosen, values, reason = result.stdout.splitlines()
    assert (chosen, values) == ("reference", "[2.0, 1.0]")
    assert "'cpu' is not available" in reason
    assert "without a working compiler" in reason
    assert result.stderr == ""


def test_without_compiled_kernels_doctor_says_why(without_libraries):
    result = without_libraries("-m", "latentcmp", "doctor")
    assert result.returncode == 0
    states = {line.split()[1]: line for line in result.stdout.splitlines() if line.startswith("backend ")}
    assert "missing: " in states["cpu"]
    assert "without a working compiler" in states["cpu"]
    assert "available" in states["reference"]
