"""The Triton kernels compiled to cubin without a GPU: no spills, registers under a ceiling."""

import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

COMMON = {"stride": "i64", "D": "i32", "n_rows": "i64", "n_segments": "i64", "steps": "i32", "order": "i32"}
POINTERS = {"ptr": "*i64", "binomials": "*fp64", "partials": "*fp64", "coefficients": "*fp32"}
WIDE = dict.fromkeys(("out", "residual", "centre", "left"), "*fp32")


def compile_kernel(name, arch, kind, **constants):
    """Registers and spilled bytes of a kernel for input of one type."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from latentcmp.ops.segment_cumulants import triton_gradient, triton_kernel

    kernel = getattr(triton_gradient if "gradient" in name else triton_kernel, name)
    sizes = {"POWERS": 16, "ROWS": 32, "COLUMNS": 64, "CHUNK": 1024, **constants}
    types = {**COMMON, **POINTERS, **WIDE, "x": f"*{kind}", "dx": f"*{kind}"}
    signature = {arg: types.get(arg, "constexpr") for arg in kernel.arg_names}
    fixed = {arg: sizes[arg] for arg, type_ in signature.items() if type_ == "constexpr"}
    source = ASTSource(fn=kernel, signature=signature, constexprs=fixed)
    built = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": 4})
    return built.asm["cubin"]


def usage(cubin, folder):
    """Register and local memory counts, from the cuobjdump in Triton's wheel."""
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    (folder / "kernel.cubin").write_bytes(cubin)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    command = [str(tools / "cuobjdump"), "-res-usage", str(folder / "kernel.cubin")]
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    return {key: int(value) for key, value in re.findall(r"\b(REG|LOCAL):(\d+)", text)}


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("_segments_kernel", {"ORDER": 4, "ROOT": False}),
        ("_chunks_kernel", {"ORDER": 4}),
        ("_merge_kernel", {"ORDER": 4, "ROOT": True}),
        ("_gradient_kernel", {"ORDER": 4, "LONG": False}),
        ("_gradient_kernel", {"ORDER": 4, "LONG": True}),
    ],
)
def test_kernels_compile_without_spills(name, constants, arch, tmp_path):
    kind = "bf16" if arch == 90 else "fp32"
    found = usage(compile_kernel(name, arch, kind, **constants), tmp_path)
    assert found["LOCAL"] == 0
    assert found["REG"] <= 168  # three blocks of 128 threads on every multiprocessor
