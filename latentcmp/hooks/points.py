"""Hook points: where in a module an activation is taken, and what its rows and columns mean."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from torch import Tensor, nn

from latentcmp.errors import HookError

Scope = Literal["atom", "edge", "structure"]


@dataclass(frozen=True)
class HookPoint:
    """One activation of a module.

    `path` is the submodule's dotted name; `select` picks the tensor out of its output (None: the output itself,
    an integer: that item of a tuple, a string: that key of a dict). `scope` says what a row is. `irreps` is the
    e3nn layout of the columns (multiplicity-major), None where all columns are invariants. `width` is the number
    of columns, None where it is not known beforehand. The module fires `fires` times in one forward, of which
    the call number `call` is taken.
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
        """The tensor of this point, at once: some models reuse the container that they return."""
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
    """A hook point as it is; a string is a module path whose output is the tensor."""
    return point if isinstance(point, HookPoint) else HookPoint(name=point, path=point)


def find_module(root: nn.Module, path: str) -> nn.Module:
    """The submodule at `path`. Raises HookError with the nearest paths where there is none."""
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
