"""latentcmp: how well the latent features of one interatomic potential reconstruct those of another.

- `compare` compares models, or features of them, in all ordered pairs; `compare_features` compares feature matrices.
- `extract` returns the features of a model, `extract_to` writes them, `open_features` opens written ones, `tap` takes
  those of any module.
- `metrics` and `similarity` hold the measures as functions, `JointStatistics` accumulates what they are computed from.
- `segment_cumulants` pools atoms into structures, `DriftMonitor` measures layers during a training.

Names are imported when first used, so `import latentcmp` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latentcmp._version import __version__
from latentcmp.errors import MissingPackageError

if TYPE_CHECKING:
    from latentcmp import metrics
    from latentcmp.comparison.from_matrices import compare_features
    from latentcmp.comparison.result import Comparison
    from latentcmp.comparison.run import compare
    from latentcmp.errors import (
        HookError,
        InputError,
        LatentcmpError,
        MissingPackageError,
        ModelError,
        UntrustedCheckpointError,
    )
    from latentcmp.features.data import Features
    from latentcmp.features.extract import extract
    from latentcmp.features.extract_to import extract_to
    from latentcmp.features.open import open_features
    from latentcmp.hooks.points import HookPoint
    from latentcmp.hooks.tap import Tap, tap
    from latentcmp.measures import similarity
    from latentcmp.measures.error_matrix import ErrorMatrix
    from latentcmp.measures.streaming_local import RunningLocalErrors
    from latentcmp.measures.streaming_nearest import RunningNeighbours
    from latentcmp.monitor.drift import DriftMonitor
    from latentcmp.ops.segment_cumulants import segment_cumulants
    from latentcmp.ops.segments import Segments
    from latentcmp.statistics.joint import JointStatistics
    from latentcmp.statistics.moments import Moments
    from latentcmp.statistics.row_sample import AtomSample

_HOMES = {
    "AtomSample": "statistics.row_sample",
    "Comparison": "comparison.result",
    "DriftMonitor": "monitor.drift",
    "ErrorMatrix": "measures.error_matrix",
    "Features": "features.data",
    "HookError": "errors",
    "HookPoint": "hooks.points",
    "InputError": "errors",
    "JointStatistics": "statistics.joint",
    "LatentcmpError": "errors",
    "MissingPackageError": "errors",
    "ModelError": "errors",
    "Moments": "statistics.moments",
    "RunningLocalErrors": "measures.streaming_local",
    "RunningNeighbours": "measures.streaming_nearest",
    "Segments": "ops.segments",
    "Tap": "hooks.tap",
    "UntrustedCheckpointError": "errors",
    "compare": "comparison.run",
    "compare_features": "comparison.from_matrices",
    "extract": "features.extract",
    "extract_to": "features.extract_to",
    "metrics": "metrics",
    "open_features": "features.open",
    "segment_cumulants": "ops.segment_cumulants",
    "similarity": "measures.similarity",
    "tap": "hooks.tap",
}

__all__ = [
    "AtomSample",
    "Comparison",
    "DriftMonitor",
    "ErrorMatrix",
    "Features",
    "HookError",
    "HookPoint",
    "InputError",
    "JointStatistics",
    "LatentcmpError",
    "MissingPackageError",
    "ModelError",
    "Moments",
    "RunningLocalErrors",
    "RunningNeighbours",
    "Segments",
    "Tap",
    "UntrustedCheckpointError",
    "__version__",
    "compare",
    "compare_features",
    "extract",
    "extract_to",
    "metrics",
    "open_features",
    "segment_cumulants",
    "similarity",
    "tap",
]


CLI_PACKAGES = ("ase", "e3nn", "matplotlib", "pydantic", "rich", "scipy", "typer")
"""Import packages of the extra `cli`; its distributions have the same names."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'latentcmp' has no attribute {name!r}")
    try:
        module = import_module(f"latentcmp.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if error.name not in CLI_PACKAGES:
            raise
        raise MissingPackageError(
            f"latentcmp.{name} needs {error.name}, which is not installed: pip install 'latentcmp[cli]'"
        ) from error
    value = module if name in ("metrics", "similarity") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
