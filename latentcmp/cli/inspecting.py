"""`latentcmp models`, `latentcmp doctor` and `latentcmp bench`."""

from typing import Annotated

import typer

from latentcmp.cli.options import out


def models(
    names: Annotated[list[str] | None, typer.Argument(help="Which models; default all.", show_default=False)] = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Load each installed model and check it against what was recorded.")
    ] = False,
) -> None:
    """The models latentcmp knows: installed or how to install, checkpoint, licence, elements, hook points."""
    from latentcmp.cli.model_list import show_models, show_self_test, show_unusable
    from latentcmp.models.registry import cards, parse

    chosen = [parse(name) for name in names or cards()]
    if self_test:
        if not show_self_test(out, chosen):
            raise typer.Exit(1)
        return
    show_models(out, chosen)
    if not names:
        show_unusable(out)


def doctor() -> None:
    """What runs here: each backend of the kernels, available or why not, and each model package."""
    from latentcmp.cli.doctor_report import show_doctor

    show_doctor(out)


def bench(context: typer.Context) -> None:
    """Measure pooling, reconstruction or streaming beside their peers: `latentcmp bench pooling --help`."""
    from importlib import import_module
    from importlib.util import find_spec

    # In a wheel the benchmarks lie inside the package, in a checkout beside it.
    home = "latentcmp.benchmarks" if find_spec("latentcmp.benchmarks") else "benchmarks"
    import_module(f"{home}.run").main(context.args)
