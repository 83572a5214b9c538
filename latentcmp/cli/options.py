"""What the commands share: their consoles and the options that mean the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

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
