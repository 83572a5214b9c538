"""`latentcmp compare` and `latentcmp merge`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentcmp.cli.options import BatchAtoms, Device, Layer, OnUnsupported, Output, Reduce, Structures, Trust, err, out
from latentcmp.errors import InputError

if TYPE_CHECKING:
    from latentcmp.comparison.result import Comparison
    from latentcmp.comparison.shards import Shard


def compare(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names (see `latentcmp models`) or FAMILY:CHECKPOINT, each with @LAYER if it has its own, "
            "or directories that `latentcmp extract` wrote. "
            "Default: chgnet-0.3.0 sevennet-0 sevennet-mf-0 diep.",
            show_default=False,
        ),
    ] = None,
    structures: Structures = None,
    output: Output = Path("latentcmp-results"),
    layer: Layer = "last",
    reduce: Reduce = "invariant",
    order: Annotated[
        int | None,
        typer.Option(help="Highest cumulant of the structure descriptors, 1 to 8. Default: 4.", show_default=False),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="chorna2025: the paper's split (1000 test rows, by atom, stratified by subset) and order 8."),
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="Share of the parent groups that is tested. Default: 0.2.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Key of the split.")] = 0,
    solver: Annotated[str, typer.Option(help="cutoff (truncated SVD, as in the paper) or ridge.")] = "cutoff",
    n_local_points: Annotated[
        int | None,
        typer.Option(help="Neighbours of a local map. Default: the smaller width of the pair.", show_default=False),
    ] = None,
    on_unsupported: OnUnsupported = "skip",
    device: Device = None,
    batch_atoms: BatchAtoms = None,
    trust: Trust = False,
    local_train_rows: Annotated[int, typer.Option(help="Training rows kept for local errors.")] = 50_000,
    local_test_rows: Annotated[int, typer.Option(help="Test rows kept for local errors and intervals.")] = 10_000,
    statistics: Annotated[str, typer.Option(help="qr (exact) or gram (faster, blind under 1e-7).")] = "qr",
    shard: Annotated[
        str | None,
        typer.Option(
            help="NUMBER/COUNT: gather this part of the structures only, into a file in the output directory; "
            "`latentcmp merge` finishes.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Errors between the features of all ordered pairs of models, atom by atom and structure by structure.

    GFRE is the error of one linear map from the source's features to the target's, LFRE that of a map for every
    neighbourhood; 0 is a perfect rebuild, 1 no better than the mean. Results go to the terminal and, as
    results.json, CSV tables and figures, to the output directory. Under torchrun the ranks share the structures.
    """
    from latentcmp.cli.progress_bars import progress_bars
    from latentcmp.cli.tables import show_config
    from latentcmp.comparison.config import CompareConfig
    from latentcmp.comparison.run import run, run_rank, run_shard
    from latentcmp.comparison.shards import Shard
    from latentcmp.comparison.torchrun import this_shard
    from latentcmp.features.open import is_features
    from latentcmp.report.files import check_writable

    config = CompareConfig.of(
        **({"models": tuple(models)} if models else {}),
        layer=layer,
        reduce=reduce,
        order=order,
        preset=preset,
        test_fraction=test_fraction,
        seed=seed,
        solver=solver,
        n_local_points=n_local_points,
        on_unsupported=on_unsupported,
        device=device,
        batch_atoms=batch_atoms,
        trust=trust,
        local_train_rows=local_train_rows,
        local_test_rows=local_test_rows,
        statistics=statistics,
    )
    rank, part = this_shard(), Shard.parse(shard) if shard else None
    if rank and part:
        raise InputError("--shard is for a process that runs alone; under torchrun the ranks share the structures")
    out.quiet = err.quiet = bool(rank and rank.number > 1)  # one rank speaks for all
    check_writable(output)
    default = "those of the features" if all(map(is_features, config.models)) else "built-in set"
    try:
        show_config(out, config, ", ".join(map(str, structures or [])) or default, str(output))
        with progress_bars(err) as progress:
            if part:
                _say_shard(part, output, run_shard(config, structures, progress, part, output))
                return
            runs = run_rank(config, structures, progress, rank) if rank else run(config, structures, progress)
        if runs:
            _write(runs, output)
    except KeyboardInterrupt:
        err.print(f"Interrupted; what {output} held before is as it was.")
        raise typer.Exit(130) from None


def _write(comparison: "Comparison", output: Path) -> None:
    """Results to files, then to the terminal."""
    from latentcmp.cli.tables import show_comparison

    written = comparison.save(output)
    show_comparison(out, comparison)
    out.print(f"Wrote {', '.join(path.name for path in written)} to {output}")


def _say_shard(shard: "Shard", output: Path, written: Path | None) -> None:
    path = shard.path(output)
    done = f"Wrote {path}" if written else f"{path} is there already and whole: nothing to do"
    out.print(f"{done}; when all {shard.of} are, run: latentcmp merge {output} -o RESULTS", soft_wrap=True)


def merge(
    shards: Annotated[list[Path], typer.Argument(help="Directories of shards.", show_default=False)],
    output: Output = Path("latentcmp-results"),
    partial: Annotated[bool, typer.Option("--partial", help="Finish from the shards there are.")] = False,
) -> None:
    """Finish a comparison from the shards that `latentcmp compare --shard` wrote."""
    from latentcmp._runtime.progress import Timing
    from latentcmp.cli.progress_bars import progress_bars
    from latentcmp.comparison.run import finish
    from latentcmp.comparison.shards import merge_shards
    from latentcmp.report.files import check_writable

    check_writable(output)
    timing = Timing()
    with timing.part("reading shards"):
        collected = merge_shards(shards, partial)
    with progress_bars(err) as progress:
        comparison = finish(collected, timing, progress)
    _write(comparison, output)
