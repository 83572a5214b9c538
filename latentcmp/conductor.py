"""The conductor: models x structures, or features at hand, to errors between all ordered pairs."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcmp import __version__
from latentcmp._timing import Timing
from latentcmp.comparison import Comparison, ErrorMatrix, Level
from latentcmp.config import CompareConfig
from latentcmp.errors import InputError
from latentcmp.features import Features, Progress, choose_device, extract_layers, structures_manifest
from latentcmp.metrics import as_matrix, checked_split
from latentcmp.models.card import Adapter
from latentcmp.models.registry import ModelSpec, check_available, identity, load, parse_all
from latentcmp.ops.segment_cumulants import segment_cumulants
from latentcmp.reconstruction.local import check_local_points
from latentcmp.reconstruction.pairs import (
    MEASURES,
    Measure,
    check_measures,
    local_points,
    pointwise_errors,
    root_mean_square,
    split_rows,
)
from latentcmp.reconstruction.solvers import Solver, checked_alphas
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.screen import Screening, screen
from latentcmp.systems.split import Split, rows_by_group, split_as_paper, split_by_group

__all__ = ["MEASURES", "compare", "compare_features"]


def compare(
    models: Sequence[str] | None = None,
    structures: Structures | None = None,
    layer: str = "last",
    order: int | None = None,
    device: str | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Comparison:
    """Errors between the features of all ordered pairs of models, atom by atom and structure by structure.

    `models` are names (`latentcmp models` lists them; None: four), each with @LAYER where it differs from `layer`;
    `structures` a path, several paths or a list of Atoms (None: the built-in set). `order` is the highest cumulant
    of the structure descriptors (default 4). Further options are the keys of `latentcmp.config.CompareConfig`.
    `progress(label, done, total)` is called as the work goes on. Raises InputError, MissingPackageError, HookError
    or UntrustedCheckpointError, before the models run wherever that can be known before.
    """
    chosen = {} if models is None else {"models": tuple([models] if isinstance(models, str) else models)}
    config = CompareConfig.of(layer=layer, order=order, device=device, **chosen, **options)
    return run(config, structures, progress)


def run(config: CompareConfig, structures: Structures | None = None, progress: Progress | None = None) -> Comparison:
    """`compare` from a configuration."""
    timing = Timing()
    specs = parse_all(config.models, config.layer)
    where = choose_device(config.device)
    for spec in specs:
        check_available(spec, config.trust)
    with timing.part("structures"):
        systems = read_systems(structures)
    with timing.part("imports and loading"):
        adapters = {spec.source: load(spec, where, config.trust) for spec in specs}
    with timing.part("structures"):
        screening = screen(systems, [adapter.card for adapter in adapters.values()], config.on_unsupported)
        split = _split(config, screening)
    _check_split(split, config)
    features = _extract(config, specs, adapters, screening, progress, timing)
    values = {label: matrix.values for label, matrix in features.items()}
    with timing.part("errors between atoms"):
        atoms = _level(values, split.atoms, config, progress, "errors between atoms")
    with timing.part("errors between structures"):
        descriptors = _descriptors(features, config.cumulant_order)
        structures_level = _level(descriptors, split.systems, config, progress, "errors between structures")
    with timing.part("errors between orders"):
        orders = _orders(descriptors, split.systems, config, progress)
    manifest = _manifest(config, specs, features, screening, split)
    return Comparison(tuple(values), atoms, structures_level, orders, manifest, timing.seconds)


def compare_features(
    features: Mapping[str, Tensor | np.ndarray],
    test_idx: Any = None,
    train_idx: Any = None,
    groups: Sequence[Any] | None = None,
    measures: Sequence[Measure] = ("gfre", "lfre"),
    n_local_points: int | None = None,
    *,
    solver: Solver = "cutoff",
    alphas: Any = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Comparison:
    """Errors between feature matrices at hand, {name: [n, D]}, which hold the same rows; no model is run.

    Tensors stay on their device. `test_idx` and `train_idx` are as in `latentcmp.metrics`, and with the same split
    the entries are those of its functions. `groups` [n] instead sends all rows of a group (a structure, a parent, a
    trajectory) to one side by a keyed hash of its label. `measures` are of "gfre", "gfrd", "lfre"; `n_local_points`
    is the k of LFRE, by default min(D_X, D_Y) and at most the training rows. Raises InputError.
    """
    if not features:
        raise InputError("no features were given; give a mapping of names to matrices [n, D]")
    check_measures(measures)
    matrices = {name: as_matrix(name, values) for name, values in features.items()}
    if groups is not None:
        if test_idx is not None or train_idx is not None:
            raise InputError("groups make the split; give them, or test_idx and train_idx, not both")
        n = len(next(iter(matrices.values())))
        test_idx = rows_by_group(groups, n, test_fraction, seed)
    train, test = checked_split(matrices, train_idx, test_idx)
    job = _Job(tuple(measures), n_local_points, solver, checked_alphas(alphas))
    level = job.run(matrices, train, test)
    manifest = {"versions": versions(), "solver": solver, "alphas": job.alphas.tolist()}
    return Comparison(tuple(matrices), level, manifest=manifest)


@dataclass(frozen=True)
class _Job:
    """Which measures, and how, between all ordered pairs of some matrices."""

    measures: tuple[Measure, ...]
    n_local_points: int | None
    solver: Solver
    alphas: np.ndarray

    def run(
        self,
        matrices: Mapping[str, Tensor],
        train: np.ndarray,
        test: np.ndarray,
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> Level:
        rows = split_rows(matrices, train, test)
        names, targets = tuple(rows), list(rows.values())
        errors: dict[str, list[Tensor]] = {measure: [] for measure in self.measures}
        for done, source in enumerate(targets, 1):
            for measure in self.measures:
                found = pointwise_errors(
                    source,
                    targets,
                    measure,
                    n_local_points=self.n_local_points,
                    solver=self.solver,
                    alphas=self.alphas,
                )
                errors[measure].append(torch.stack([root_mean_square(row_errors) for row_errors in found]))
            advance(done, len(targets))
        found_matrices = {m: ErrorMatrix(m, names, torch.stack(values).cpu()) for m, values in errors.items()}
        neighbours = [[local_points(x, y, self.n_local_points) for y in targets] for x in targets]
        return Level(found_matrices, len(train), len(test), neighbours if "lfre" in self.measures else None)


def _extract(
    config: CompareConfig,
    specs: Sequence[ModelSpec],
    adapters: dict[tuple[str, str], Adapter],
    screening: Screening,
    progress: Progress | None,
    timing: Timing,
) -> dict[str, Features]:
    """Features by label, each model run once for all of its layers."""
    found: dict[tuple[tuple[str, str], str], Features] = {}
    for source, adapter in adapters.items():
        layers = [spec.layer for spec in specs if spec.source == source]
        extracted = extract_layers(
            adapter,
            screening.systems,
            layers,
            reduce=config.reduce,
            batch_atoms=config.batch_atoms,
            progress=progress,
            timing=timing,
        )
        found.update({(source, layer): features for layer, features in extracted.items()})
    return {spec.label: found[spec.source, spec.layer] for spec in specs}


def _split(config: CompareConfig, screening: Screening) -> Split:
    if config.preset == "chorna2025":
        return split_as_paper(screening.systems, config.seed)
    return split_by_group(screening.systems, config.test_fraction, config.seed)


def _check_split(split: Split, config: CompareConfig) -> None:
    """What the errors need of the split, asked before the models run."""
    for name, test in (("structures", split.systems), ("atoms", split.atoms)):
        n_test, n_train = int(test.sum()), int((~test).sum())
        if n_train < 2 or n_test < 1:
            raise InputError(
                f"the split leaves {n_train} {name} for training and {n_test} for testing; errors need at least 2 and "
                "1: give more structures"
            )
    if config.n_local_points is not None:
        check_local_points(config.n_local_points, int((~split.atoms).sum()))


def _level(
    matrices: Mapping[str, Tensor], test: np.ndarray, config: CompareConfig, progress: Progress | None, label: str
) -> Level:
    train_idx, test_idx = np.flatnonzero(~test), np.flatnonzero(test)
    k = config.n_local_points and min(config.n_local_points, len(train_idx))  # structures may be fewer than atoms
    job = _Job(("gfre", "lfre"), k, config.solver, checked_alphas())
    return job.run(matrices, train_idx, test_idx, lambda done, total: progress and progress(label, done, total))


def _descriptors(features: Mapping[str, Features], order: int) -> dict[str, Tensor]:
    """Progressive cumulants [n_systems, order * D] in the features' own unit, order-major, float64."""
    return {
        label: segment_cumulants(found.values.double(), found.ptr, order, root=True).flatten(1)
        for label, found in features.items()
    }


def _orders(
    descriptors: Mapping[str, Tensor], test: np.ndarray, config: CompareConfig, progress: Progress | None
) -> dict[str, ErrorMatrix]:
    """For each model the GFRE of orders 1..i rebuilding orders 1..j: what each order adds."""
    job = _Job(("gfre",), None, config.solver, checked_alphas())
    order, found = config.cumulant_order, {}
    for done, (label, values) in enumerate(descriptors.items(), 1):
        width = values.shape[1] // order
        progressive = {str(m): values[:, : m * width] for m in range(1, order + 1)}
        found[label] = job.run(progressive, np.flatnonzero(~test), np.flatnonzero(test)).gfre
        if progress:
            progress("errors between orders", done, len(descriptors))
    return found


def _manifest(
    config: CompareConfig,
    specs: Sequence[ModelSpec],
    features: Mapping[str, Features],
    screening: Screening,
    split: Split,
) -> dict[str, Any]:
    return {
        "models": {spec.label: identity(spec) | features[spec.label].manifest for spec in specs},
        "structures": structures_manifest(screening),
        "split": split.rule,
        "solver": config.solver,
        "alphas": checked_alphas().tolist(),
        "order": config.cumulant_order,
        "config": config.model_dump(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions that numbers may depend on."""
    return {
        "latentcmp": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
