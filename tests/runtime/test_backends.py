"""The choice of a backend, and the reasons given for a missing one."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from latentcmp._runtime import backends, native
from latentcmp.errors import InputError

OFFERED = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "triton", "reference")}


@pytest.fixture(autouse=True)
def no_request(monkeypatch):
    """Backends are chosen without LATENTCMP_BACKEND and the interpreter of Triton unless a test sets them."""
    monkeypatch.delenv("LATENTCMP_BACKEND", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.mark.parametrize(
    ("missing", "chosen"), [((), "cuda"), (("cuda",), "triton"), (("cuda", "triton"), "reference")]
)
def test_the_first_available_backend_is_chosen(monkeypatch, missing, chosen):
    monkeypatch.setattr(backends, "why_missing", lambda name: "not here" if name in missing else "")
    assert backends.choose(OFFERED, "cuda") == chosen
    assert backends.choose(OFFERED, "meta") == "reference"


@pytest.mark.parametrize(
    ("requested", "device", "chosen"),
    [
        ("reference", "cpu", "reference"),
        ("triton", "cuda", "triton"),
        ("triton", "cpu", "cpu"),
        ("cuda", "cpu", "cpu"),
        ("cpu", "cuda", "cuda"),
        ("", "cuda", "cuda"),
    ],
)
def test_the_environment_applies_where_the_operator_has_the_backend(monkeypatch, requested, device, chosen):
    monkeypatch.setattr(backends, "why_missing", lambda name: "")
    monkeypatch.setenv("LATENTCMP_BACKEND", requested)
    assert backends.choose(OFFERED, device) == chosen


def test_an_argument_takes_precedence_over_the_environment(monkeypatch):
    monkeypatch.setattr(backends, "why_missing", lambda name: "")
    monkeypatch.setenv("LATENTCMP_BACKEND", "reference")
    assert backends.choose(OFFERED, "cpu", "cpu") == "cpu"


def test_requests_that_cannot_be_met_are_input_errors(monkeypatch):
    monkeypatch.setattr(backends, "why_missing", lambda name: "no compiler" if name == "cpu" else "")
    with pytest.raises(InputError, match="no backend 'triton' for cpu tensors; choose one of cpu, reference"):
        backends.choose(OFFERED, "cpu", "triton")
    with pytest.raises(InputError, match="'cpu' is not available: no compiler"):
        backends.choose(OFFERED, "cpu", "cpu")
    monkeypatch.setenv("LATENTCMP_BACKEND", "cpu")
    with pytest.raises(InputError, match="'cpu' is not available: no compiler"):
        backends.choose(OFFERED, "cpu")
    monkeypatch.setenv("LATENTCMP_BACKEND", "gpu")
    with pytest.raises(InputError, match="LATENTCMP_BACKEND is 'gpu', expected one of cpu, cuda, triton, reference"):
        backends.choose(OFFERED, "cpu")


def test_triton_runs_on_a_cpu_in_its_interpreter_on_request_only(monkeypatch):
    monkeypatch.setattr(backends, "why_missing", lambda name: "")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert backends.choose(OFFERED, "cpu") == "cpu"
    assert backends.choose(OFFERED, "cpu", "triton") == "triton"
    with pytest.raises(InputError, match="no backend 'triton'"):
        backends.choose({"cpu": ("reference",), "cuda": ("cuda", "reference")}, "cpu", "triton")


@pytest.mark.parametrize(
    ("capability", "words"), [((7, 5), "sm_80 on.*sm_75.*CUDAARCHS=75"), ((8, 0), "^$"), ((9, 0), "^$")]
)
def test_a_gpu_older_than_the_kernels_is_a_reason_with_a_remedy(monkeypatch, capability, words):
    library = SimpleNamespace(lc_cuda_lowest_architecture=lambda: 80)
    monkeypatch.setattr(backends.native, "load", lambda kind: (library, ""))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert re.search(words, backends.why_missing.__wrapped__("cuda"))


@pytest.mark.skipif(bool(native.load("cuda")[1]), reason="the CUDA kernels are not built")
def test_the_lowest_architecture_is_that_of_the_build():
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


def test_without_compiled_kernels_the_reference_runs_and_requesting_them_is_an_error(without_libraries):
    script = (
        "import torch\n"
        "from latentcmp._runtime import backends\n"
        "from latentcmp.errors import InputError\n"
        "from latentcmp.ops import segment_cumulants\n"
        "from latentcmp.ops.segment_cumulants.op import BACKENDS\n"
        "print(backends.choose(BACKENDS, 'cpu'))\n"
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


def test_without_compiled_kernels_doctor_gives_the_reason(without_libraries):
    result = without_libraries("-m", "latentcmp", "doctor")
    assert result.returncode == 0
    states = {line.split()[1]: line for line in result.stdout.splitlines() if line.startswith("backend ")}
    assert "missing: " in states["cpu"]
    assert "without a working compiler" in states["cpu"]
    assert "available" in states["reference"]
