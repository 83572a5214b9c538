"""`latentcmp compare` and `latentcmp merge`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentcmp.cli.options import Output, Structures, config_options, description, err, out
from latentcmp.comparison.config import CompareConfig
from latentcmp.errors import InputError

if TYPE_CHECKING:
    from latentcmp.comparison.result import Comparison
    from latentcmp.comparison.shards import Shard


@config_options(*(name for name in CompareConfig.model_fields if name != "models"))
def compare(
    models: Annotated[list[str] | None, typer.Argument(help=description("models"), show_default=False)] = None,
    structures: Structures = None,
    output: Output = Path("latentcmp-results"),
    shard: Annotated[
        str | None,
        typer.Option(
            help="NUMBER/COUNT: accumulate statistics of this part of the structures only, into a file in the output "
            "directory; `latentcmp merge` finishes.",
            show_default=False,
        ),
    ] = None,
    **options: Any,
) -> None:
    """Errors between the features of all ordered pairs of models, atom by atom and structure by structure.

    GFRE is the error of one linear map from the source's features to the target's, LFRE that of a map for every
    neighbourhood; 0 is a perfect reconstruction, 1 no better than the mean. Results go to the terminal and, as
    results.json, CSV tables and figures, to the output directory. Under torchrun the ranks share the structures.

    Exit status: 0 for success, 2 for an error that the message explains, 130 for an interrupted run.
    """
    from latentcmp.cli.progress_bars import progress_bars
    from latentcmp.cli.tables import show_config
    from latentcmp.comparison.run import run, run_rank, run_shard
    from latentcmp.comparison.shards import Shard
    from latentcmp.comparison.torchrun import this_shard
    from latentcmp.features.open import is_features
    from latentcmp.report.files import check_writable

    config = CompareConfig.of(**({"models": models} if models else {}), **options)
    rank, part = this_shard(), Shard.parse(shard) if shard else None
    if rank and part:
        raise InputError("--shard is for a process that runs alone; under torchrun the ranks share the structures")
    out.quiet = err.quiet = bool(rank and rank.number > 1)  # rank 0 prints
    check_writable(output)
    default = "those of the features" if all(map(is_features, config.models)) else "built-in set"
    try:
        show_config(out, config, ", ".join(map(str, structures or [])) or default, str(output))
        with progress_bars(err) as progress:
            if part:
                _say_shard(part, output, run_shard(config, structures, progress, part, output))
                return
            comparison = run_rank(config, structures, progress, rank) if rank else run(config, structures, progress)
        if comparison:
            _write(comparison, output)
    except KeyboardInterrupt:
        err.print(f"Interrupted; earlier results in {output} are unchanged.")
        raise typer.Exit(130) from None


def _write(comparison: "Comparison", output: Path) -> None:
    """Results to files, then to the terminal."""
    from latentcmp.cli.tables import show_comparison

    written = comparison.save(output)
    show_comparison(out, comparison)
    out.print(f"Wrote {', '.join(path.name for path in written)} to {output}")


def _say_shard(shard: "Shard", output: Path, written: Path | None) -> None:
    path = shard.path(output)
    done = f"Wrote {path}" if written else f"{path} exists and is complete: nothing to do"
    out.print(f"{done}; when all {shard.of} are, run: latentcmp merge {output} -o RESULTS", soft_wrap=True)


def merge(
    shards: Annotated[list[Path], typer.Argument(help="Directories of shards.", show_default=False)],
    output: Output = Path("latentcmp-results"),
    partial: Annotated[bool, typer.Option("--partial", help="Finish with shards missing.")] = False,
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
        accumulator = merge_shards(shards, partial)
    with progress_bars(err) as progress:
        comparison = finish(accumulator, timing, progress)
    _write(comparison, output)
