"""`latentcmp extract` and `latentcmp drift`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from latentcmp.cli.options import Output, Structures, config_options, err, out
from latentcmp.comparison.config import CompareConfig


@config_options("layer", "reduce", "on_unsupported", "device", "batch_atoms", "trust")
def extract(
    model: Annotated[
        str,
        typer.Argument(
            help="A name (see `latentcmp models`) or FAMILY:CHECKPOINT, with @LAYER or --layer.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the features.", show_default=False)],
    structures: Structures = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove other features in the directory.")] = False,
    **options: Any,
) -> None:
    """Write the features of one model to a directory, to be compared without it.

    Models that cannot share an environment are extracted each in its own; `latentcmp compare` then takes the
    directories. An interrupted run resumes when the same command is run again.

    Exit status: 0 for success, 2 for an error that the message explains, 130 for an interrupted run.
    """
    from latentcmp.cli.progress_bars import progress_bars
    from latentcmp.cli.tables import notes
    from latentcmp.features.extract_to import extract_to
    from latentcmp.report.files import check_writable

    options = CompareConfig.of(models=(model,), **options).model_dump(include=set(options))
    check_writable(output)
    try:
        with progress_bars(err) as progress:
            store = extract_to(output, model, structures or None, overwrite=overwrite, progress=progress, **options)
    except KeyboardInterrupt:
        err.print(f"Interrupted; run the same command again to resume from what {output} holds.")
        raise typer.Exit(130) from None
    for note in notes({"structures": store.manifest}):
        out.print(note)
    rows = f"{len(store):,} rows of {store.width} features ({store.manifest['dtype']}, {len(store.ids):,} structures)"
    out.print(f"Wrote {rows} of {model} to {output}", soft_wrap=True)


@config_options("layer", "reduce", "seed", "device", "batch_atoms", "trust")
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
    **options: Any,
) -> None:
    """Errors between the checkpoints of a training and a reference, against the step, in both directions.

    Steps come from the file names ("step", "epoch", else their last number), else from the order. A second run
    resumes: checkpoints that drift.csv holds are not run again. One that does not load is named and left out.

    Exit status: 0 for success, 1 where a checkpoint was left out, 2 for an error that the message explains, 130 for an
    interrupted run.
    """
    from latentcmp.cli.progress_bars import progress_bars
    from latentcmp.cli.tables import notes
    from latentcmp.comparison.checkpoints import drift as measure
    from latentcmp.report.figures import drift as figure
    from latentcmp.report.files import check_writable, save_figure

    config = CompareConfig.of(**options)
    check_writable(output)
    output.mkdir(parents=True, exist_ok=True)
    table = output / "drift.csv"
    try:
        with progress_bars(err) as progress:
            result = measure(checkpoints, reference, structures, table, family=family, config=config, progress=progress)
    except KeyboardInterrupt:
        err.print(f"Interrupted; run the same command again to resume from what {table} holds.")
        raise typer.Exit(130) from None
    if result.lines:
        save_figure(figure(result.lines, reference), output / "drift.png")
        out.print(f"Wrote drift.csv and drift.png ({len(result.lines)} checkpoints) to {output}")
    for note in notes({"structures": result.structures}):
        out.print(note)
    for name, reason in result.failed.items():
        err.print(f"Left out: {name}: {reason}", soft_wrap=True)
    if result.failed:
        raise typer.Exit(1)
