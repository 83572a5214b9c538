"""`latentcmp models`, `latentcmp doctor` and `latentcmp bench`."""

from typing import Annotated

import typer

from latentcmp.cli.options import out


def models(
    names: Annotated[list[str] | None, typer.Argument(help="Which models; default all.", show_default=False)] = None,
    self_test: Annotated[
        bool,
        typer.Option("--self-test", help="Load each installed model and compare it with recorded energies and shapes."),
    ] = False,
) -> None:
    """List the models: installed or how to install, checkpoint, licence, elements, hook points.

    Families that installed packages register are listed too.

    Exit status: 0 for success, 1 where a self-test failed, 2 for an error that the message explains.
    """
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
    """Report the backends of the kernels, available or why not, and the model packages."""
    from latentcmp.cli.doctor_report import show_doctor

    show_doctor(out)


def bench(context: typer.Context) -> None:
    """Run a benchmark of pooling, reconstruction, streaming, ...: `latentcmp bench pooling --help`."""
    from importlib import import_module
    from importlib.util import find_spec

    # A wheel has the benchmarks inside the package, a checkout beside it.
    home = "latentcmp.benchmarks" if find_spec("latentcmp.benchmarks") else "benchmarks"
    import_module(f"{home}.run").main(context.args)
