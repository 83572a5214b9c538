"""Run a comparison: models x structures, through statistics of their features, to errors between all ordered pairs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from latentcmp._runtime.devices import choose_device
from latentcmp._runtime.distributed import job_process_group, rank_device
from latentcmp._runtime.progress import Progress, Timing
from latentcmp.comparison.accumulate import ComparisonAccumulator, accumulate
from latentcmp.comparison.model_inputs import InMemory, Inputs, Model
from latentcmp.comparison.opening import Request, device_of, open_sources
from latentcmp.comparison.pairwise import accumulated, pairwise_level
from latentcmp.comparison.plan import Plan
from latentcmp.comparison.result import Comparison
from latentcmp.comparison.shards import Shard, is_done, write_shard
from latentcmp.comparison.sources import FeatureSource
from latentcmp.comparison.torchrun import merge_on_rank_0
from latentcmp.features.extract import structures_manifest
from latentcmp.hooks.layout import Reduce
from latentcmp.measures.cross_validation import Solver
from latentcmp.measures.error_matrix import ErrorMatrix
from latentcmp.measures.measure import MeasureOptions
from latentcmp.measures.registry import DEFAULT_MEASURES
from latentcmp.statistics.accumulator import SampleSizes
from latentcmp.statistics.joint_moments import Method
from latentcmp.systems.read import Structures
from latentcmp.systems.screen import OnUnsupported

if TYPE_CHECKING:
    from latentcmp.comparison.config import CompareConfig


def compare(
    models: Model | Sequence[Model] | None = None,
    structures: Structures | None = None,
    layer: str = "last",
    order: int | None = None,
    device: str | None = None,
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    reduce: Reduce = "invariant",
    preset: Literal["chorna2025"] | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
    solver: Solver = "cutoff",
    n_local_points: int | None = None,
    local_train_rows: int = SampleSizes.train,
    local_test_rows: int = SampleSizes.test,
    statistics: Method = "qr",
    on_unsupported: OnUnsupported = "skip",
    batch_atoms: int | None = None,
    trust: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Errors between the features of all ordered pairs of models, atom by atom and structure by structure.

    Args:
        models: one or several of, in any mixture: names (`latentcmp models` lists them) or FAMILY:CHECKPOINT, each
            with @LAYER if it has its own; features:DIRECTORY for features that `latentcmp extract` wrote; loaded models
            (`latentcmp.models.load`); features in memory (`latentcmp.extract`) or opened (`latentcmp.open_features`).
            Features are joined on structure id, atom and element. None: four pretrained models.
        structures: a path, several paths or a list of `ase.Atoms`; None: the built-in set, or with features alone
            those of the features.
        layer: "last", "backbone" or a module path; layer of the models that do not name their own.
        order: highest cumulant of the structure descriptors [n_systems, order * D], 1 to 8. None: 4, with a preset 8.
        device: "cpu", "cuda" or "cuda:N". None: that of the loaded models, else CUDA where there is one.
        measures: names of the measures to compute (`latentcmp.measures.registry`).
        reduce: columns taken of equivariant layers: "invariant" (l = 0 only), "norms" (also the norms of l > 0) or
            "full".
        preset: "chorna2025" splits as arXiv 2512.05717: 1000 test rows, by atom, stratified by subset.
        test_fraction: fraction of the parent groups in the test set, between 0 and 1. None: 0.2.
        seed: seed of the split.
        solver: regularisation of the linear maps: "cutoff" (truncated SVD) or "ridge", selected by 2-fold
            cross-validation.
        n_local_points: neighbours of a local map, at least 2. None: the smaller width of the pair.
        local_train_rows: training rows sampled for local errors.
        local_test_rows: test rows sampled for local errors and for intervals.
        statistics: joint statistics of the features: "qr" (R factors, exact) or "gram" (Gram matrices: faster, but
            singular values below 1e-7 of the largest are lost).
        on_unsupported: "skip" leaves structures that a model does not support out for all models; "error" raises.
        batch_atoms: atoms in a batch of a model. None: 64 on a CPU, 4096 on a GPU.
        trust: load checkpoints that need pickle, which can run code.
        progress: called as `progress(label, done, total)`.

    Returns:
        Matrices of the measures between atoms and between structures; with "gfre" among the measures also, for each
        model, those between its descriptors of lower and higher order.

    Raises:
        InputError: an option, a model or a structure is wrong, before any model runs wherever that can be checked
            before; or features are not finite.
        ModelError: a model cannot be loaded or fails on a structure.
        MissingPackageError: pydantic, or the package of a model, is not installed.
        HookError: the layer of a model does not run once in a forward.
        UntrustedCheckpointError: a checkpoint needs pickle and `trust` is not set.
    """
    options = dict(locals())  # every argument but these three is a field of CompareConfig
    given, structures, progress = (options.pop(name) for name in ("models", "structures", "progress"))
    from latentcmp.comparison.config import CompareConfig

    inputs = Inputs((), {}) if given is None else Inputs.of(given)
    named = {} if given is None else {"models": inputs.names}
    return run(CompareConfig.of(**named, **options), structures, progress, inputs.in_memory)


def run(
    config: "CompareConfig",
    structures: Structures | None = None,
    progress: Progress | None = None,
    in_memory: InMemory | None = None,
) -> Comparison:
    """`compare` from a configuration, in which labels stand for the inputs `in_memory`."""
    timing = Timing()
    plan, sources = prepare(config, structures, timing, in_memory)
    accumulator = accumulate(plan, sources, range(len(plan.blocks)), timing, progress)
    assert accumulator is not None
    return finish(accumulator, timing, progress)


def run_rank(
    config: "CompareConfig", structures: Structures | None, progress: Progress | None, rank: Shard
) -> Comparison | None:
    """`compare` in every process of a torchrun job: rank 0 returns the result of a single process, the others None."""
    timing = Timing()
    device = choose_device(rank_device(config.device))
    with job_process_group(device):
        plan, sources = prepare(config.model_copy(update={"device": str(device)}), structures, timing)
        accumulator = accumulate(plan, sources, rank.blocks(len(plan.blocks)), timing, progress)
        with timing.part("waiting for all ranks"):
            whole = merge_on_rank_0(accumulator, plan.manifest)
    return finish(whole, timing, progress) if whole else None


def run_shard(
    config: "CompareConfig", structures: Structures | None, progress: Progress | None, shard: Shard, directory: Path
) -> Path | None:
    """Accumulate a shard of a comparison and write its file; return the path, or None if the file was complete."""
    timing = Timing()
    plan, sources = prepare(config, structures, timing)
    if is_done(directory, shard, plan.manifest):
        return None
    accumulator = accumulate(plan, sources, shard.blocks(len(plan.blocks)), timing, progress)
    return write_shard(directory, shard, plan.manifest, accumulator)


def prepare(
    config: "CompareConfig", structures: Structures | None, timing: Timing, in_memory: InMemory | None = None
) -> tuple[Plan, list[FeatureSource]]:
    """Load the models, read and screen the structures, and make the plan."""
    in_memory = in_memory or {}
    device = device_of(config, in_memory)
    opened = open_sources(Request(config, structures, device, in_memory, timing))
    with timing.part("structures"):
        screening = opened.screening
        plan = Plan.of(config, screening.systems, device.type, opened.manifests, structures_manifest(screening))
    return plan, opened.sources


def finish(accumulator: ComparisonAccumulator, timing: Timing, progress: Progress | None = None) -> Comparison:
    """Compute the measures from the statistics of all blocks."""
    manifest = accumulator.manifest
    levels = {}
    for kind, rows in (("atoms", accumulator.atoms), ("structures", accumulator.structures)):
        label = f"errors between {kind}"
        sampled = min(rows.sizes.train, rows.n_rows["train"])  # structures are fewer than atoms
        k = manifest["config"]["n_local_points"] and min(manifest["config"]["n_local_points"], sampled)
        with timing.part(label):
            options = MeasureOptions(k, manifest["solver"])
            given = accumulated(rows, options, accumulator.names.__getitem__)
            levels[kind] = pairwise_level(given, manifest["measures"], options, _step(progress, label))
    with timing.part("errors between orders"):
        orders = (
            _orders(accumulator, _step(progress, "errors between orders")) if "gfre" in manifest["measures"] else {}
        )
    models = {label: metadata | accumulator.layers[label] for label, metadata in manifest["models"].items()}
    manifest = manifest | {"models": models}
    return Comparison(tuple(models), levels["atoms"], levels["structures"], orders, manifest, timing.total())


def _orders(accumulator: ComparisonAccumulator, advance: Callable[[int, int], None]) -> dict[str, ErrorMatrix]:
    """For each model the GFRE from the descriptors of orders 1..i to those of orders 1..j."""
    rows, order, orders = accumulator.structures, accumulator.manifest["order"], {}
    for label, width in rows.widths.items():
        leading = {str(m): (label, m * width // order) for m in range(1, order + 1)}
        options = MeasureOptions(solver=accumulator.manifest["solver"], columns=leading)
        given = accumulated(rows, options, accumulator.names.__getitem__)
        orders[label] = pairwise_level(given, ("gfre",), options).gfre
        advance(len(orders), len(rows.widths))
    return orders


def _step(progress: Progress | None, label: str) -> Callable[[int, int], Any]:
    return lambda done, total: progress and progress(label, done, total)
