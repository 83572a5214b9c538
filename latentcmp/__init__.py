"""latentcmp: how well the latent features of one interatomic potential rebuild those of another.

`compare` runs models and compares them, `compare_features` compares features at hand, `extract` gives the features
of one model, `extract_to` writes them to a directory where `open_features` reads them, `tap` gives those of any
module, `metrics` holds the measures, `similarity` what joint statistics give besides, `segment_cumulants` pools atoms
into structures, `DriftMonitor` watches layers in training. Names are loaded when they are first used, so `import
latentcmp` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from latentcmp import metrics, similarity
    from latentcmp.comparison import Comparison, ErrorMatrix
    from latentcmp.conductor import compare
    from latentcmp.features import Features, extract
    from latentcmp.hooks.points import HookPoint
    from latentcmp.hooks.tap import Tap, tap
    from latentcmp.matrices import compare_features
    from latentcmp.monitor.drift import DriftMonitor
    from latentcmp.ops.segment_cumulants import segment_cumulants
    from latentcmp.ops.segment_cumulants.moments import Moments
    from latentcmp.segments import Segments
    from latentcmp.statistics.joint import JointStatistics
    from latentcmp.statistics.local import RunningLocalErrors
    from latentcmp.statistics.neighbours import RunningNeighbours
    from latentcmp.statistics.sample import AtomSample
    from latentcmp.store import open_features
    from latentcmp.store.extraction import extract_to

_HOMES = {
    "AtomSample": "statistics.sample",
    "Comparison": "comparison",
    "DriftMonitor": "monitor.drift",
    "ErrorMatrix": "comparison",
    "Features": "features",
    "HookPoint": "hooks.points",
    "JointStatistics": "statistics.joint",
    "Moments": "ops.segment_cumulants.moments",
    "RunningLocalErrors": "statistics.local",
    "RunningNeighbours": "statistics.neighbours",
    "Segments": "segments",
    "Tap": "hooks.tap",
    "compare": "conductor",
    "compare_features": "matrices",
    "extract": "features",
    "extract_to": "store.extraction",
    "metrics": "metrics",
    "open_features": "store",
    "segment_cumulants": "ops.segment_cumulants",
    "similarity": "similarity",
    "tap": "hooks.tap",
}

__all__ = [
    "AtomSample",
    "Comparison",
    "DriftMonitor",
    "ErrorMatrix",
    "Features",
    "HookPoint",
    "JointStatistics",
    "Moments",
    "RunningLocalErrors",
    "RunningNeighbours",
    "Segments",
    "Tap",
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'latentcmp' has no attribute {name!r}")
    module = import_module(f"latentcmp.{_HOMES[name]}")
    value = module if name in ("metrics", "similarity") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
