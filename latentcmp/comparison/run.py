"""The conductor: models x structures, through statistics of their features, to errors between all ordered pairs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from latentcmp._runtime.devices import choose_device
from latentcmp._runtime.distributed import job_process_group, rank_device
from latentcmp._runtime.progress import Progress, Timing
from latentcmp.comparison.accumulate import ComparisonAccumulator, collect
from latentcmp.comparison.config import CompareConfig
from latentcmp.comparison.pairwise import accumulated, pairwise_level
from latentcmp.comparison.plan import Plan
from latentcmp.comparison.result import Comparison
from latentcmp.comparison.shards import Shard, is_done, write_shard
from latentcmp.comparison.sources import Source, open_sources
from latentcmp.comparison.torchrun import gathered_on_rank_0
from latentcmp.features.extract import structures_manifest
from latentcmp.measures.cross_validation import Solver
from latentcmp.measures.error_matrix import ErrorMatrix
from latentcmp.measures.measure import MeasureOptions
from latentcmp.measures.registry import DEFAULT_MEASURES
from latentcmp.systems.read import Structures


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
    are the keys of `latentcmp.comparison.config.CompareConfig`. `progress(label, done, total)` is called as the work
    goes on. Raises InputError, MissingPackageError, HookError or UntrustedCheckpointError, before the models run
    wherever that can be known before.
    """
    chosen = {} if models is None else {"models": (models,) if isinstance(models, str) else models}
    return run(CompareConfig.of(layer=layer, order=order, device=device, **chosen, **options), structures, progress)


def run(config: CompareConfig, structures: Structures | None = None, progress: Progress | None = None) -> Comparison:
    """`compare` from a configuration."""
    timing = Timing()
    plan, sources = prepare(config, structures, timing)
    collected = collect(plan, sources, range(len(plan.blocks)), timing, progress)
    assert collected is not None
    return finish(collected, timing, progress)


def run_rank(
    config: CompareConfig, structures: Structures | None, progress: Progress | None, rank: Shard
) -> Comparison | None:
    """`compare` in every process of a torchrun job: rank 0 returns what one process alone would, the others None."""
    timing = Timing()
    device = choose_device(rank_device(config.device))
    with job_process_group(device):
        plan, sources = prepare(config.model_copy(update={"device": str(device)}), structures, timing)
        collected = collect(plan, sources, rank.blocks(len(plan.blocks)), timing, progress)
        with timing.part("waiting for all ranks"):
            whole = gathered_on_rank_0(collected, plan.manifest)
    return finish(whole, timing, progress) if whole else None


def run_shard(
    config: CompareConfig, structures: Structures | None, progress: Progress | None, shard: Shard, directory: Path
) -> Path | None:
    """Gather a shard of a comparison into its file, and return it; None where it was there already."""
    timing = Timing()
    plan, sources = prepare(config, structures, timing)
    if is_done(directory, shard, plan.manifest):
        return None
    collected = collect(plan, sources, shard.blocks(len(plan.blocks)), timing, progress)
    return write_shard(directory, shard, plan.manifest, collected)


def prepare(config: CompareConfig, structures: Structures | None, timing: Timing) -> tuple[Plan, list[Source]]:
    """Load the models, read and screen the structures, and settle what is to be done with them."""
    sources, screening, known = open_sources(config, structures, timing)
    with timing.part("structures"):
        device = choose_device(config.device)
        plan = Plan.of(config, screening.systems, device.type, known, structures_manifest(screening))
    return plan, sources


def finish(collected: ComparisonAccumulator, timing: Timing, progress: Progress | None = None) -> Comparison:
    """From what was gathered of all blocks to the errors."""
    config = CompareConfig(**collected.manifest["config"])
    levels = {}
    for kind, gathered in (("atoms", collected.atoms), ("structures", collected.structures)):
        label = f"errors between {kind}"
        kept = min(gathered.sizes.train, gathered.n_rows["train"])  # structures are fewer than atoms
        k = config.n_local_points and min(config.n_local_points, kept)
        with timing.part(label):
            options = MeasureOptions(k, config.solver)
            given = accumulated(gathered, options, collected.names.__getitem__)
            levels[kind] = pairwise_level(given, DEFAULT_MEASURES, options, _step(progress, label))
    with timing.part("errors between orders"):
        orders = _orders(collected, config.solver, _step(progress, "errors between orders"))
    known = {label: found | collected.layers[label] for label, found in collected.manifest["models"].items()}
    manifest = collected.manifest | {"models": known}
    return Comparison(tuple(known), levels["atoms"], levels["structures"], orders, manifest, timing.total())


def _orders(
    collected: ComparisonAccumulator, solver: Solver, advance: Callable[[int, int], None]
) -> dict[str, ErrorMatrix]:
    """For each model the GFRE of orders 1..i rebuilding orders 1..j: what each order adds."""
    gathered, order, found = collected.structures, collected.manifest["order"], {}
    for label, width in gathered.widths.items():
        leading = {str(m): (label, m * width // order) for m in range(1, order + 1)}
        options = MeasureOptions(solver=solver, columns=leading)
        given = accumulated(gathered, options, collected.names.__getitem__)
        found[label] = pairwise_level(given, ("gfre",), options).gfre
        advance(len(found), len(gathered.widths))
    return found


def _step(progress: Progress | None, label: str) -> Callable[[int, int], None]:
    return lambda done, total: progress and progress(label, done, total)
