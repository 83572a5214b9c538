"""The command line: one module for each kind of command, and here what they hang on."""

import os
import sys

import typer
from rich.text import Text

from latentcmp.cli.comparing import compare, merge
from latentcmp.cli.features import drift, extract
from latentcmp.cli.inspecting import bench, doctor, models
from latentcmp.cli.options import err
from latentcmp.errors import LatentcmpError

app = typer.Typer(
    help="How well do the latent features of one interatomic potential rebuild those of another?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for command in (compare, merge, extract, drift, models, doctor):
    app.command()(command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)(bench)


@app.callback()
def _root() -> None:
    """Compare the latent features of universal machine-learning interatomic potentials."""


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
