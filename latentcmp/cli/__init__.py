"""The command line: the application, with one module for each kind of command."""

import os
import sys
from typing import Annotated

import typer
from rich.text import Text

from latentcmp._version import __version__
from latentcmp.cli.comparing import compare, merge
from latentcmp.cli.features import drift, extract
from latentcmp.cli.inspecting import bench, doctor, models
from latentcmp.cli.options import err, out
from latentcmp.errors import LatentcmpError

app = typer.Typer(
    help="How well do the latent features of one interatomic potential reconstruct those of another?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for command in (compare, merge, extract, drift, models, doctor):
    app.command()(command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)(bench)


def _print_version(asked: bool) -> None:
    if asked:
        out.print(f"latentcmp {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Compare the latent features of universal machine-learning interatomic potentials."""


def main() -> None:
    """Run the command line; an error of latentcmp becomes one line and exit status 2."""
    try:
        app()
    except LatentcmpError as error:
        err.quiet = False
        rank = f" on rank {os.environ['RANK']}" if "RANK" in os.environ else ""
        err.print(Text.assemble((f"Error{rank}:", "bold red"), f" {error}"), soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader closed the pipe
        sys.exit(0)
