"""What torch, numpy and safetensors alone are enough for."""

import os
import subprocess
import sys

ABSENT = ("ase", "pydantic", "typer", "rich", "matplotlib", "e3nn", "scipy", "pandas", "sklearn", "skmatter")
SCRIPT = f"""
import importlib.metadata as metadata
import sys

sys.modules.update(dict.fromkeys({ABSENT!r}))
installed = metadata.version


def version(name):
    if name in {ABSENT!r}:
        raise metadata.PackageNotFoundError(name)
    return installed(name)


metadata.version = version

import torch

import latentcmp
from latentcmp.measures.registry import MEASURES
from latentcmp.nn import CKALoss, ReconstructionLoss

generator = torch.Generator().manual_seed(0)
x = torch.randn(60, 5, generator=generator)
y = torch.tanh(x @ torch.randn(5, 3, generator=generator))
for limit in (10_000, 20):
    found = latentcmp.compare_features({{"x": x, "y": y}}, measures=list(MEASURES), local_test_rows=limit)
    assert set(found.to_dict()["atoms"]) >= set(MEASURES), found.to_dict()
    assert "ase" not in found.manifest["versions"] and "torch" in found.manifest["versions"], found.manifest
assert repr(found) and found._repr_html_()
assert latentcmp.metrics.global_reconstruction_error(x, y) < latentcmp.metrics.global_reconstruction_error(y, x)
assert latentcmp.similarity.linear_cka(x, y) < 1
statistics = latentcmp.JointStatistics({{"x": 5, "y": 3}})
statistics.update({{"x": x, "y": y}}, torch.arange(60) % 3)
assert statistics.errors().shape == latentcmp.similarity.cca(statistics).shape == (2, 2)
assert latentcmp.segment_cumulants(x, torch.tensor([0, 20, 60]), 4).shape == (2, 4, 5)
for loss in (CKALoss(), ReconstructionLoss()):
    loss(x.requires_grad_(), y).backward()
"""


def test_features_are_compared_without_packages_for_models_files_and_terminals() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
