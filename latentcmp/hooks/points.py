"""Hook points: the place of an activation in a module, and the meaning of its rows and columns."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from torch import Tensor, nn

from latentcmp.errors import HookError

Scope = Literal["atom", "edge", "structure"]


@dataclass(frozen=True)
class HookPoint:
    """One activation of a module.

    Attributes:
        name: the name of the activation.
        path: the dotted name of the submodule whose output it is.
        select: the tensor in that output: None for the output itself, an integer for an item of a tuple, a string for
            a key of a dict.
        scope: what a row stands for.
        irreps: the e3nn layout of the columns (multiplicity-major); None: all columns are invariant.
        width: number of columns; None: unknown.
        fires: how often the submodule is called in one forward.
        call: which of these calls is taken, from 0.
    """

    name: str
    path: str
    select: int | str | None = None
    scope: Scope = "atom"
    irreps: str | None = None
    width: int | None = None
    fires: int = 1
    call: int = 0

    def take(self, output: Any) -> Tensor:
        """Return the tensor of this point from the submodule's output. Raises HookError where there is none."""
        try:
            value = output if self.select is None else output[self.select]
        except (KeyError, IndexError, TypeError) as error:
            raise HookError(f"{self} has no item {self.select!r}: {_contents(output)}") from error
        if not isinstance(value, Tensor):
            raise HookError(f"{self} gives no tensor: {_contents(value)}; choose one with HookPoint(select=...)")
        return value

    def __str__(self) -> str:
        return f"hook point {self.name!r} (module {self.path!r})"


def as_point(point: HookPoint | str) -> HookPoint:
    """Return a hook point; a string is the path of a module whose output is the tensor."""
    return point if isinstance(point, HookPoint) else HookPoint(name=point, path=point)


def find_module(root: nn.Module, path: str) -> nn.Module:
    """Return the submodule at `path`. Raises HookError with the nearest paths where there is none."""
    modules = dict(root.named_modules())
    if path in modules:
        return modules[path]
    near = get_close_matches(path, modules, n=5, cutoff=0.4) or sorted(
        name for name in modules if "." not in name and name
    )
    raise HookError(f"{type(root).__name__} has no module {path!r}; nearest: {', '.join(near[:12]) or '(none in it)'}")


def _contents(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {', '.join(type(item).__name__ for item in value)}"
    if hasattr(value, "keys"):
        return f"a {type(value).__name__} with keys {', '.join(map(str, list(value.keys())[:20]))}"
    return f"a {type(value).__name__}"
