"""The loader: a library of another ABI, structs as in the C header, the instruction set."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir

import pytest

from latentcmp._runtime import abi, native

CSRC = Path(__file__).parents[2] / "csrc"
ISA_SCRIPT = "from latentcmp._runtime import native; print(native.load('cpu')[0].lc_cpu_instruction_set().decode())"


@pytest.fixture
def load_edited(tmp_path, monkeypatch):
    """Compile the ABI of the CPU library with an edited header, and load it as latentcmp does."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")

    def load(pattern, replacement):
        for part in ("include", "cpu"):
            shutil.copytree(CSRC / part, tmp_path / part)
        header = tmp_path / "include" / "latentcmp.h"
        text, count = re.subn(pattern, replacement, header.read_text())
        assert count == 1
        header.write_text(text)
        monkeypatch.setenv("LATENTCMP_LIB", str(tmp_path))
        library = native.library_path("cpu")
        source = tmp_path / "cpu" / "library.cpp"
        subprocess.run([compiler, "-std=c++17", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
        return native.load.__wrapped__("cpu")

    return load


def test_a_library_of_another_abi_version_is_refused_with_a_reason(load_edited):
    library, reason = load_edited(r"LC_ABI_VERSION = \d+", f"LC_ABI_VERSION = {abi.ABI_VERSION + 1}")
    assert library is None
    assert f"its ABI version is {abi.ABI_VERSION + 1}, expected {abi.ABI_VERSION}" in reason
    assert reason.endswith("install latentcmp again")


def test_a_library_with_a_struct_of_another_size_is_refused_with_a_reason(load_edited):
    library, reason = load_edited("struct LcFold {", "struct LcFold { int64_t added;")
    size = ctypes.sizeof(abi.LcFold)
    assert library is None
    assert f"its LcFold has {size + 8} bytes, expected {size}" in reason


def test_a_library_before_the_first_abi_version_is_refused_with_a_reason(load_edited):
    library, reason = load_edited(r"(?s)\Z", "\n#define lc_cpu_abi_version lc_cpu_other\n")
    assert library is None
    assert f"its ABI version is 0, expected {abi.ABI_VERSION}" in reason


def test_a_library_of_this_abi_without_kernels_is_refused_with_a_reason(load_edited):
    library, reason = load_edited(r"(?s)\Z", "\n")
    assert library is None
    assert re.search("does not load: .*lc_cpu_segment_cumulants", reason)


def test_doctor_shows_a_library_of_another_abi_as_missing(load_edited):
    load_edited(r"LC_ABI_VERSION = \d+", "LC_ABI_VERSION = 77")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "latentcmp", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, cwd=gettempdir())
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("backend cpu"))
    assert re.search("missing: .*its ABI version is 77", line)


def test_the_structs_are_those_of_the_header():
    header = (CSRC / "include" / "latentcmp.h").read_text()
    version = int(re.search(r"LC_ABI_VERSION = (\d+)", header)[1])
    bodies = dict(re.findall(r"struct (\w+) \{(.*?)\n\};", header, re.DOTALL))
    assert version == abi.ABI_VERSION
    assert list(bodies) == [struct.__name__ for struct in abi.STRUCTS]
    for struct in abi.STRUCTS:
        fields = re.findall(r"^  ([\w ]+\*?) (\w+)(\[\d+\])?;", bodies[struct.__name__], re.MULTILINE)
        assert [name for _, name, _ in fields] == [name for name, _ in struct._fields_]
        assert [c_type(*field) for field in fields] == [type_ for _, type_ in struct._fields_]


def c_type(declared, _, extent):
    if declared.endswith("*"):
        return ctypes.c_void_p
    named = {"int64_t": ctypes.c_int64, "int32_t": ctypes.c_int32, "LcFold": abi.LcFold, "LcSpectrum": abi.LcSpectrum}
    return named[declared] * int(extent[1:-1]) if extent else named[declared]


def test_every_entry_point_of_the_header_is_declared():
    header = (CSRC / "include" / "latentcmp.h").read_text()
    exported = set(re.findall(r"LC_API [^;]*?(lc_\w+)\(", header))
    declared = {name for signatures in abi.SIGNATURES.values() for name in signatures}
    own = {f"lc_{kind}_{name}" for kind in ("cpu", "cuda") for name in ("abi_version", "struct_size")}
    assert exported == declared | own


@pytest.mark.skipif(bool(native.load("cpu")[1]), reason="the CPU kernels are not built")
@pytest.mark.parametrize("name", ["", "baseline", "avx2", "avx512"])
def test_the_instruction_set_is_limited_by_its_name(name):
    done = run_with_isa(name)
    narrower = native.INSTRUCTION_SETS[: native.INSTRUCTION_SETS.index(name or "avx512") + 1]
    assert done.stdout.strip() in narrower
    if name == "baseline":
        assert done.stdout.strip() == "baseline"


@pytest.mark.parametrize("name", ["a", "av", "avx", "AVX2", "avx2 "])
def test_an_unknown_instruction_set_is_an_input_error(name):
    done = run_with_isa(name)
    assert f"InputError: LATENTCMP_ISA is {name!r}, expected one of baseline, avx2, avx512" in done.stderr


@pytest.mark.skipif(bool(native.load("cpu")[1]), reason="the CPU kernels are not built")
@pytest.mark.parametrize("name", ["a", "av", "neon", "baseline", ""])
def test_the_library_itself_ignores_an_unknown_instruction_set(name):
    script = (
        "import ctypes, sys; library = ctypes.CDLL(sys.argv[1]); f = library.lc_cpu_instruction_set\n"
        "f.restype = ctypes.c_char_p; print(f().decode())"
    )
    path = str(native.library_path("cpu"))
    chosen = [
        subprocess.run(
            [sys.executable, "-c", script, path], capture_output=True, text=True, check=True, env=environment
        )
        for environment in (os.environ | {"LATENTCMP_ISA": name}, os.environ | {"LATENTCMP_ISA": "avx512"})
    ]
    assert chosen[0].stdout == ("baseline\n" if name == "baseline" else chosen[1].stdout)


def run_with_isa(name):
    environment = os.environ | {"LATENTCMP_ISA": name, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", ISA_SCRIPT]  # away from a checkout, which has no compiled kernels
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=gettempdir())
