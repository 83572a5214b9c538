"""The study: features, errors, answers, files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from latentcmp._runtime.types import Metadata
from latentcmp._runtime.versions import versions
from latentcmp.features.extract import structures_manifest
from latentcmp.features.stored import StoredFeatures
from latentcmp.models.registry import DEFAULT_MODELS
from latentcmp.systems.screen import Screening
from latentcmp.systems.system import System

from ..run import processor
from .claims import answers
from .features import LAYERS, extract_layers, screened
from .finding import with_seeds
from .report import text, write
from .tables import error_tables


@dataclass(frozen=True)
class Size:
    """Checkpoints, and the built-in structures: the first `limit` of those whose subset begins with `subset`."""

    models: tuple[str, ...]
    subset: str = ""
    limit: int | None = None


FULL = Size(
    (
        "chgnet-0.3.0",
        "chgnet-0.2.0",
        "chgnet-r2scan",
        "diep",
        "sevennet-0",
        "sevennet-0-22may2024",
        "sevennet-l3i5",
        "sevennet-mf-0",
        "sevennet-mf-0-r2scan",
    )
)
QUICK = Size(("chgnet-0.3.0", "chgnet-0.2.0", "chgnet-r2scan", "diep"), "aflow", 48)
SEEDS = [0, 1, 2, 3, 4]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--features", type=Path, required=True, help="folder of the features, which are computed once")
    parser.add_argument("--quick", action="store_true", help="four checkpoints and few structures")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of the folds; figures are of the first")


def run(options: argparse.Namespace) -> Path:
    """Extract what is missing, compute the errors, print the findings, and write findings.md and findings.json."""
    size = QUICK if options.quick else FULL
    screening = screened(size.models, size.subset, size.limit)
    stores = stored(options.features, size.models, screening)
    tables = {seed: error_tables(size.models, stores, DEFAULT_MODELS, seed) for seed in options.seeds}
    findings = with_seeds({seed: answers(of_seed) for seed, of_seed in tables.items()})
    print(text(findings))
    about = describe(options.seeds, screening, stores)
    return write(options.out, about, findings, tables[options.seeds[0]])


def stored(folder: Path, models: Sequence[str], screening: Screening[System]) -> dict[str, StoredFeatures]:
    """Features by MODEL@LAYER."""
    by_model = {model: extract_layers(folder, model, screening) for model in models}
    return {f"{model}@{layer}": by_model[model][layer] for layer in LAYERS for model in models}


def describe(seeds: list[int], screening: Screening[System], stores: dict[str, StoredFeatures]) -> Metadata:
    """What made the numbers."""
    structures = structures_manifest(screening)
    kept = ("n_systems", "n_atoms", "structures_hash", "skipped")
    return {
        "device": processor(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "seeds": seeds,
        "recipe": "five folds of groups, ridge",
        "structures": {key: structures[key] for key in kept},
        "models": {store.manifest["name"]: _checkpoint(store) for store in stores.values()},
    }


def _checkpoint(store: StoredFeatures) -> Metadata:
    return {key: store.manifest[key] for key in ("package", "package_version", "checkpoint", "sha256")}
