"""Run a comparison: models x structures, through statistics of their features, to errors between all ordered pairs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from latentcmp._runtime.devices import choose_device
from latentcmp._runtime.distributed import job_process_group, rank_device
from latentcmp._runtime.progress import Progress, Timing
from latentcmp._runtime.types import Metadata
from latentcmp.comparison.accumulate import ComparisonAccumulator, accumulate
from latentcmp.comparison.annotations import annotated, without_random_weights
from latentcmp.comparison.level_rows import accumulated
from latentcmp.comparison.memory import SHARED, fewer_blocks
from latentcmp.comparison.model_inputs import InMemory, Inputs, Model
from latentcmp.comparison.noise import FeatureNoise
from latentcmp.comparison.opening import Request, device_of, open_sources
from latentcmp.comparison.pairwise import Pairwise
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
from latentcmp.statistics.joint_moments import JointMoments, Method
from latentcmp.statistics.part_moments import PartMoments
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
    seed: int = 0,
    solver: Solver | None = None,
    baselines: Literal["default", "full", "none"] = "default",
    n_local_points: int | None = None,
    local_train_rows: int = SampleSizes.train,
    local_test_rows: int = SampleSizes.test,
    statistics: Method | None = None,
    memory: float | None = None,
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
        preset: "chorna2025" compares as arXiv 2512.05717: 1000 test rows, by atom, stratified by subset; truncated SVD
            from 1e-9 by 2-fold cross-validation of rows. Its numbers depend on the order of the rows. None: five folds
            of groups, each tested once, with strengths chosen by the folds among the others.
        seed: seed of the split.
        solver: regularisation of the linear maps: "cutoff" (truncated SVD) or "ridge". None: "ridge", with a preset
            "cutoff".
        baselines: "default" computes beside the errors of models those of permuted rows, of elements and of
            coordination, and the noise of features on 64 structures; "full", with 5 times as many forwards, also those
            of the architecture of each model with random weights, a mean over three seeds, and the noise on all
            structures; "none" leaves them out.
        n_local_points: neighbours of a local map, at least 2. None: the smaller width of the pair, at most 64;
            with a preset without this limit.
        local_train_rows: training rows sampled for local errors.
        local_test_rows: test rows sampled for local errors and for intervals.
        statistics: joint statistics of the features: "qr" (R factors, exact) or "gram" (Gram matrices: faster, but
            singular values below 1e-7 of the largest are lost). None: "gram", with a preset "qr".
        memory: GB of the joint statistics; where those of 20 blocks of groups need more, 5 folds are kept, and
            intervals of GFRE hold the maps fixed. None: half of the free memory.
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
    accumulator = accumulate(plan, sources, range(len(plan.blocks)), timing, progress, config.memory_bytes)
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
        blocks, memory = rank.blocks(len(plan.blocks)), config.memory_bytes or SHARED
        accumulator = accumulate(plan, sources, blocks, timing, progress, memory)
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
    blocks, memory = shard.blocks(len(plan.blocks)), config.memory_bytes or SHARED
    accumulator = accumulate(plan, sources, blocks, timing, progress, memory)
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
        random = [label for source in opened.sources for label in source.random_labels]
        metadata = structures_manifest(screening)
        plan = Plan.of(config, screening.systems, device.type, opened.manifests, metadata, random)
    return plan, opened.sources


def finish(accumulator: ComparisonAccumulator, timing: Timing, progress: Progress | None = None) -> Comparison:
    """Compute the measures from the statistics of all blocks."""
    manifest = accumulator.manifest
    levels, moments = {}, {}
    for kind, rows in (("atoms", accumulator.atoms), ("structures", accumulator.structures)):
        label = f"errors between {kind}"
        folds = accumulator.folds.get(kind)
        with timing.part(label):
            moments[kind] = rows.finish()
            given = accumulated(rows, moments[kind], folds, structure=accumulator.names.__getitem__)
            k = manifest["config"]["n_local_points"]  # structures are fewer than atoms
            options = MeasureOptions(k and min(k, given.n_held_for_training), manifest["solver"], folds=folds)
            levels[kind] = Pairwise(given, options, _step(progress, label), kind).level(
                manifest["measures"], bool(manifest["described"])
            )
            if folds:
                noise = accumulator.noise if kind == "atoms" else FeatureNoise()
                spreads = _spreads(moments[kind])
                notes = fewer_blocks(folds, len(manifest["folds"]), sum(rows.widths.values()), kind)
                if kind == "atoms" and manifest["config"]["baselines"] == "full":
                    notes += without_random_weights(list(rows.widths), manifest["random_weights"])
                levels[kind] = annotated(levels[kind], _families(manifest), noise, spreads, notes)
    with timing.part("errors between orders"):
        orders = (
            _orders(accumulator, moments["structures"], _step(progress, "errors between orders"))
            if "gfre" in manifest["measures"]
            else {}
        )
    models = {label: metadata | accumulator.layers[label] for label, metadata in manifest["models"].items()}
    manifest = manifest | {"models": models}
    return Comparison(tuple(models), levels["atoms"], levels["structures"], orders, manifest, timing.total())


def _families(manifest: Metadata) -> dict[str, str]:
    return {label: model["family"] for label, model in manifest["models"].items() if "family" in model}


def _spreads(moments: JointMoments) -> dict[str, float]:
    """The spread of each matrix over all rows."""
    scalings = PartMoments.of(moments).scalings(range(len(moments.counts)))
    return {name: float(scaling.scale) for name, scaling in scalings.items()}


def _orders(
    accumulator: ComparisonAccumulator,
    moments: JointMoments,
    advance: Callable[[int, int], None],
) -> dict[str, ErrorMatrix]:
    """For each model the GFRE from the descriptors of orders 1..i to those of orders 1..j."""
    folds = accumulator.folds.get("structures")
    rows, order, orders = accumulator.structures, accumulator.manifest["order"], {}
    for label, width in rows.widths.items():
        leading = {str(m): (label, m * width // order) for m in range(1, order + 1)}
        solver = accumulator.manifest["solver"]
        options = MeasureOptions(solver=solver, columns=leading, folds=folds, rows=False)
        given = accumulated(rows, moments, folds, leading, accumulator.names.__getitem__)
        orders[label] = Pairwise(given, options).level(("gfre",)).gfre
        advance(len(orders), len(rows.widths))
    return orders


def _step(progress: Progress | None, label: str) -> Callable[[int, int], Any]:
    return lambda done, total: progress and progress(label, done, total)
