"""The command line: `latentcmp compare`, `extract`, `drift`, `models`, `doctor`, `bench`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from latentcmp.errors import InputError, LatentcmpError

if TYPE_CHECKING:
    from latentcmp.comparison import Comparison
    from latentcmp.shards import Shard

app = typer.Typer(
    help="How well do the latent features of one interatomic potential rebuild those of another?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
out = Console(markup=False, emoji=False, highlight=False)
err = Console(stderr=True, markup=False, emoji=False, highlight=False)

Structures = Annotated[
    list[Path] | None,
    typer.Option("--structures", "-s", help="A file that ASE reads; repeat for several. Default: the built-in set."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Directory for the results.")]
Layer = Annotated[str, typer.Option(help="last, backbone, or a module path.")]
Reduce = Annotated[
    str, typer.Option(help="Equivariant columns: invariant (l = 0 only), norms (and norms of l > 0), full.")
]
OnUnsupported = Annotated[str, typer.Option(help="skip or error: what to do with structures that a model cannot take.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda or cuda:N. Default: CUDA where there is one.", show_default=False)
]
BatchAtoms = Annotated[
    int | None, typer.Option(help="Atoms in a batch. Default: 64 on a CPU, 4096 on a GPU.", show_default=False)
]
Trust = Annotated[bool, typer.Option("--trust", help="Load checkpoints that need pickle, which can run code.")]


@app.callback()
def _root() -> None:
    """Compare the latent features of universal machine-learning interatomic potentials."""


@app.command()
def compare(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names (see [cyan]latentcmp models[/]) or FAMILY:CHECKPOINT, each with @LAYER if it has its own, "
            "or directories that [cyan]latentcmp extract[/] wrote. "
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
            "[cyan]latentcmp merge[/] finishes.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Errors between the features of all ordered pairs of models, atom by atom and structure by structure.

    GFRE is the error of one linear map from the source's features to the target's, LFRE that of a map for every
    neighbourhood; 0 is a perfect rebuild, 1 no better than the mean. Results go to the terminal and, as
    results.json, CSV tables and figures, to the output directory. Under torchrun the ranks share the structures.
    """
    from latentcmp.conductor import run, run_rank, run_shard
    from latentcmp.config import CompareConfig
    from latentcmp.ranks import this_shard
    from latentcmp.report.files import check_writable
    from latentcmp.report.progress import progress_bars
    from latentcmp.report.tables import show_config
    from latentcmp.shards import Shard
    from latentcmp.store import is_features

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
    show_config(out, config, ", ".join(map(str, structures or [])) or default, str(output))
    try:
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
    from latentcmp.report.tables import show_comparison

    written = comparison.save(output)
    show_comparison(out, comparison)
    out.print(f"Wrote {', '.join(path.name for path in written)} to {output}")


def _say_shard(shard: "Shard", output: Path, written: Path | None) -> None:
    path = shard.path(output)
    done = f"Wrote {path}" if written else f"{path} is there already and whole: nothing to do"
    out.print(f"{done}; when all {shard.of} are, run: latentcmp merge {output} -o RESULTS", soft_wrap=True)


@app.command()
def merge(
    shards: Annotated[list[Path], typer.Argument(help="Directories of shards.", show_default=False)],
    output: Output = Path("latentcmp-results"),
    partial: Annotated[bool, typer.Option("--partial", help="Finish from the shards there are.")] = False,
) -> None:
    """Finish a comparison from the shards that [cyan]latentcmp compare --shard[/] wrote."""
    from latentcmp._timing import Timing
    from latentcmp.conductor import finish
    from latentcmp.report.files import check_writable
    from latentcmp.report.progress import progress_bars
    from latentcmp.shards import merge_shards

    check_writable(output)
    timing = Timing()
    with timing.part("reading shards"):
        collected = merge_shards(shards, partial)
    with progress_bars(err) as progress:
        comparison = finish(collected, timing, progress)
    _write(comparison, output)


@app.command()
def extract(
    model: Annotated[
        str,
        typer.Argument(
            help="A name (see [cyan]latentcmp models[/]) or FAMILY:CHECKPOINT, with @LAYER or --layer.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the features.", show_default=False)],
    structures: Structures = None,
    layer: Layer = "last",
    reduce: Reduce = "invariant",
    on_unsupported: OnUnsupported = "skip",
    device: Device = None,
    batch_atoms: BatchAtoms = None,
    trust: Trust = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove other features in the directory.")] = False,
) -> None:
    """Write the features of one model to a directory, to be compared without it.

    Models that cannot share an environment are extracted each in its own; [cyan]latentcmp compare[/] then takes the
    directories. A run that was interrupted goes on where it stopped when it is run again.
    """
    from latentcmp.config import CompareConfig
    from latentcmp.report.files import check_writable
    from latentcmp.report.progress import progress_bars
    from latentcmp.report.tables import notes
    from latentcmp.store.extraction import extract_to

    asked = {"layer": layer, "reduce": reduce, "device": device, "batch_atoms": batch_atoms, "trust": trust}
    config = CompareConfig.of(models=(model,), on_unsupported=on_unsupported, **asked)
    options = config.model_dump(include={*asked, "on_unsupported"})
    check_writable(output)
    try:
        with progress_bars(err) as progress:
            store = extract_to(output, model, structures or None, overwrite=overwrite, progress=progress, **options)
    except KeyboardInterrupt:
        err.print(f"Interrupted; run the same command again to go on with what {output} holds.")
        raise typer.Exit(130) from None
    for note in notes({"structures": store.manifest}):
        out.print(note)
    rows = f"{len(store):,} rows of {store.width} features ({store.manifest['dtype']}, {len(store.ids):,} structures)"
    out.print(f"Wrote {rows} of {model} to {output}", soft_wrap=True)


@app.command()
def drift(
    checkpoints: Annotated[
        list[str],
        typer.Argument(help="Names, FAMILY:CHECKPOINT, or with --family paths; a folder stands for the files in it."),
    ],
    reference: Annotated[str, typer.Option("--reference", "-r", help="Name or FAMILY:CHECKPOINT to measure against.")],
    structures: Structures = None,
    output: Output = Path("latentcmp-drift"),
    family: Annotated[
        str | None, typer.Option(help="Family of bare paths, such as chgnet.", show_default=False)
    ] = None,
    layer: Layer = "last",
    reduce: Reduce = "invariant",
    seed: Annotated[int, typer.Option(help="Key of the split.")] = 0,
    device: Device = None,
    batch_atoms: BatchAtoms = None,
    trust: Trust = False,
) -> None:
    """Errors between the checkpoints of a training and a reference, against the step, in both directions.

    Steps come from the file names ("step", "epoch", else their last number), else from the order. Run again, it goes
    on where it stopped: checkpoints that drift.csv knows are not run again. One that does not load is named and left
    out, and the exit status is then 1.
    """
    from latentcmp.config import CompareConfig
    from latentcmp.drift import drift as measure
    from latentcmp.report.figures import drift as figure
    from latentcmp.report.files import check_writable, save_figure
    from latentcmp.report.progress import progress_bars
    from latentcmp.report.tables import notes

    options = {"layer": layer, "reduce": reduce, "seed": seed, "device": device, "batch_atoms": batch_atoms}
    config = CompareConfig.of(**options, trust=trust)
    check_writable(output)
    output.mkdir(parents=True, exist_ok=True)
    table = output / "drift.csv"
    try:
        with progress_bars(err) as progress:
            found = measure(checkpoints, reference, structures, table, family=family, config=config, progress=progress)
    except KeyboardInterrupt:
        err.print(f"Interrupted; run the same command again to go on with what {table} holds.")
        raise typer.Exit(130) from None
    if found.lines:
        save_figure(figure(found.lines, reference), output / "drift.png")
        out.print(f"Wrote drift.csv and drift.png ({len(found.lines)} checkpoints) to {output}")
    for note in notes({"structures": found.structures}):
        out.print(note)
    for name, reason in found.failed.items():
        err.print(f"Left out: {name}: {reason}", soft_wrap=True)
    if found.failed:
        raise typer.Exit(1)


@app.command()
def models(
    names: Annotated[list[str] | None, typer.Argument(help="Which models; default all.", show_default=False)] = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Load each installed model and check it against what was recorded.")
    ] = False,
) -> None:
    """The models latentcmp knows: installed or how to install, checkpoint, licence, elements, hook points."""
    from latentcmp.models.registry import cards, parse
    from latentcmp.report.models import show_models, show_self_test

    chosen = [parse(name) for name in names or cards()]
    if self_test:
        if not show_self_test(out, chosen):
            raise typer.Exit(1)
        return
    show_models(out, chosen)


@app.command()
def doctor() -> None:
    """What runs here: each backend of the kernels, available or why not, and each model package."""
    from latentcmp.report.doctor import show_doctor

    show_doctor(out)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def bench(context: typer.Context) -> None:
    """Measure pooling, reconstruction or streaming beside their peers: `latentcmp bench pooling --help`."""
    from importlib import import_module
    from importlib.util import find_spec

    # In a wheel the benchmarks lie inside the package, in a checkout beside it.
    home = "latentcmp.benchmarks" if find_spec("latentcmp.benchmarks") else "benchmarks"
    import_module(f"{home}.run").main(context.args)


def main() -> None:
    """Run the command line; errors a user can act on become one line and exit status 2."""
    try:
        app()
    except LatentcmpError as error:
        err.quiet = False
        rank = f" on rank {os.environ['RANK']}" if "RANK" in os.environ else ""
        err.print(Text.assemble((f"Error{rank}:", "bold red"), f" {error}"), soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: nothing more to say
        sys.exit(0)


if __name__ == "__main__":
    main()
