"""`latentcmp extract` and `latentcmp drift`."""

from pathlib import Path
from typing import Annotated

import typer

from latentcmp.cli.options import BatchAtoms, Device, Layer, OnUnsupported, Output, Reduce, Structures, Trust, err, out


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
    layer: Layer = "last",
    reduce: Reduce = "invariant",
    on_unsupported: OnUnsupported = "skip",
    device: Device = None,
    batch_atoms: BatchAtoms = None,
    trust: Trust = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove other features in the directory.")] = False,
) -> None:
    """Write the features of one model to a directory, to be compared without it.

    Models that cannot share an environment are extracted each in its own; `latentcmp compare` then takes the
    directories. A run that was interrupted goes on where it stopped when it is run again.
    """
    from latentcmp.cli.progress_bars import progress_bars
    from latentcmp.cli.tables import notes
    from latentcmp.comparison.config import CompareConfig
    from latentcmp.features.extract_to import extract_to
    from latentcmp.report.files import check_writable

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
    from latentcmp.cli.progress_bars import progress_bars
    from latentcmp.cli.tables import notes
    from latentcmp.comparison.checkpoints import drift as measure
    from latentcmp.comparison.config import CompareConfig
    from latentcmp.report.figures import drift as figure
    from latentcmp.report.files import check_writable, save_figure

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
