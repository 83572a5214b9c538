"""The conductor: models x structures, through their features, to errors between all ordered pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from latentcmp._timing import Timing
from latentcmp.comparison import Comparison, ErrorMatrix, Level
from latentcmp.config import CompareConfig
from latentcmp.errors import InputError
from latentcmp.features import (
    Features,
    Progress,
    choose_device,
    existing_point,
    extract_layers,
    structures_manifest,
)
from latentcmp.matrices import Job, RowSplit, versions
from latentcmp.models.card import Adapter
from latentcmp.models.registry import ModelSpec, check_available, identity, load, parse_all
from latentcmp.ops.segment_cumulants import segment_cumulants
from latentcmp.reconstruction.local import check_local_points
from latentcmp.reconstruction.solvers import checked_alphas
from latentcmp.store import is_features
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.screen import Screening, screen
from latentcmp.systems.split import Split, split_as_paper, split_by_group
from latentcmp.systems.system import System, in_canonical_order


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

    `models` are names (`latentcmp models` lists them; None: four), each with @LAYER where it differs from `layer`, or
    directories of features that `latentcmp extract` wrote; `structures` a path, several paths or a list of Atoms
    (None: the built-in set). `order` is the highest cumulant of the structure descriptors (default 4). Further options
    are the keys of `latentcmp.config.CompareConfig`. `progress(label, done, total)` is called as the work goes on.
    Raises InputError, MissingPackageError, HookError or UntrustedCheckpointError, before the models run wherever that
    can be known before.
    """
    chosen = {} if models is None else {"models": tuple([models] if isinstance(models, str) else models)}
    return run(CompareConfig.of(layer=layer, order=order, device=device, **chosen, **options), structures, progress)


def run(config: CompareConfig, structures: Structures | None = None, progress: Progress | None = None) -> Comparison:
    """`compare` from a configuration."""
    if any(map(is_features, config.models)):
        from latentcmp.store_comparison import run_with_stores

        return run_with_stores(config, structures, progress)
    timing = Timing()
    specs = parse_all(config.models, config.layer)
    device = choose_device(config.device)
    for spec in specs:
        check_available(spec, config.trust)
    with timing.part("structures"):
        systems = read_systems(structures)
    with timing.part("imports and loading"):
        adapters = {spec.source: load(spec, device, config.trust) for spec in specs}
    _check_layers(specs, adapters)
    with timing.part("structures"):
        cards = [adapter.card for adapter in adapters.values()]
        screening = screen(in_canonical_order(systems), cards, config.on_unsupported)
        split = make_split(config, screening)
    features = _extract(config, specs, adapters, screening, progress, timing)
    return compare_extracted(config, features, screening, split, progress, timing)


def compare_extracted(
    config: CompareConfig,
    features: Mapping[str, Features],
    screening: Screening[Any],
    split: Split,
    progress: Progress | None,
    timing: Timing,
) -> Comparison:
    """Errors between features of the same systems, in the order of `screening`."""
    ids = [system.id for system in screening.systems]
    by_atom = RowSplit.of(split.atoms, [system.id for system in screening.systems for _ in range(len(system))])
    by_structure = RowSplit.of(split.systems, ids)
    values = {label: found.values for label, found in features.items()}
    with timing.part("errors between atoms"):
        atoms = _level(values, by_atom, config, progress, "errors between atoms")
    with timing.part("errors between structures"):
        descriptors = _descriptors(features, config.cumulant_order)
        structures_level = _level(descriptors, by_structure, config, progress, "errors between structures")
    with timing.part("errors between orders"):
        orders = _orders(descriptors, by_structure, config, progress)
    manifest = _manifest(config, features, screening, split)
    return Comparison(tuple(values), atoms, structures_level, orders, manifest, timing.total())


def _check_layers(specs: Sequence[ModelSpec], adapters: dict[tuple[str, str], Adapter]) -> None:
    """Raise InputError for a layer that does not exist, or that goes under two names."""
    seen: dict[tuple[tuple[str, str], str], str] = {}
    for spec in specs:
        point = existing_point(adapters[spec.source], spec.layer)
        twin = seen.setdefault((spec.source, point.path), spec.label)
        if twin is not spec.label:
            raise InputError(f"{spec.label!r} and {twin!r} are the same layer, module {point.path!r}; give it once")


def make_split(config: CompareConfig, screening: Screening[Any]) -> Split:
    """The split, and what the errors need of it, asked before the models run."""
    if config.preset == "chorna2025":
        split = split_as_paper(screening.systems, config.seed)
    else:
        split = split_by_group(screening.systems, config.tested, config.seed)
    for name, test in (("structures", split.systems), ("atoms", split.atoms)):
        n_test, n_train = int(test.sum()), int((~test).sum())
        if n_train < 2 or n_test < 1:
            raise InputError(
                f"the split leaves {n_train} {name} for training and {n_test} for testing; errors need at least 2 and "
                "1: give more structures"
            )
    if config.n_local_points is not None:
        check_local_points(config.n_local_points, int((~split.atoms).sum()))
    return split


def _extract(
    config: CompareConfig,
    specs: Sequence[ModelSpec],
    adapters: dict[tuple[str, str], Adapter],
    screening: Screening[System],
    progress: Progress | None,
    timing: Timing,
) -> dict[str, Features]:
    """Features by label, each model run once for all of its layers."""
    found: dict[tuple[tuple[str, str], str], Features] = {}
    for source, adapter in adapters.items():
        extracted = extract_layers(
            adapter,
            screening.systems,
            [spec.layer for spec in specs if spec.source == source],
            reduce=config.reduce,
            batch_atoms=config.batch_atoms,
            progress=progress,
            timing=timing,
        )
        found.update({(source, layer): features for layer, features in extracted.items()})
    for spec in specs:
        features = found[spec.source, spec.layer]
        features.manifest = identity(spec) | features.manifest
    return {spec.label: found[spec.source, spec.layer] for spec in specs}


def _level(
    matrices: Mapping[str, Tensor], split: RowSplit, config: CompareConfig, progress: Progress | None, label: str
) -> Level:
    k = config.n_local_points and min(config.n_local_points, len(split.train))  # structures may be fewer than atoms
    job = Job(("gfre", "lfre"), k, config.solver, checked_alphas())
    return job.run(matrices, split, lambda done, total: progress and progress(label, done, total))


def _descriptors(features: Mapping[str, Features], order: int) -> dict[str, Tensor]:
    """Progressive cumulants [n_systems, order * D] in the features' own unit, order-major, float64."""
    return {
        label: segment_cumulants(found.values.double(), found.ptr, order, root=True).flatten(1)
        for label, found in features.items()
    }


def _orders(
    descriptors: Mapping[str, Tensor], split: RowSplit, config: CompareConfig, progress: Progress | None
) -> dict[str, ErrorMatrix]:
    """For each model the GFRE of orders 1..i rebuilding orders 1..j: what each order adds."""
    job = Job(("gfre",), None, config.solver, checked_alphas())
    order, found = config.cumulant_order, {}
    for done, (label, values) in enumerate(descriptors.items(), 1):
        width = values.shape[1] // order
        found[label] = job.run({str(m): values[:, : m * width] for m in range(1, order + 1)}, split).gfre
        if progress:
            progress("errors between orders", done, len(descriptors))
    return found


def _manifest(
    config: CompareConfig, features: Mapping[str, Features], screening: Screening[Any], split: Split
) -> dict[str, Any]:
    return {
        "models": {label: found.manifest for label, found in features.items()},
        "structures": structures_manifest(screening),
        "split": split.rule,
        "solver": config.solver,
        "alphas": checked_alphas().tolist(),
        "order": config.cumulant_order,
        "config": config.model_dump(),
        "versions": versions(),
    }
