"""Taps: forward hooks that pass activations on during the forward, on their device, and count their calls."""

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from latentcmp.errors import HookError
from latentcmp.hooks.layout import Reduce, reduce_columns
from latentcmp.hooks.points import HookPoint, as_point, find_module

Sink: TypeAlias = Callable[[str, Tensor], None]
Points: TypeAlias = Iterable[HookPoint | str] | HookPoint | str


class Tap:
    """Forward hooks on points of a module, attached inside a `with` block.

    Without a sink, `tap[name]` is the activation of the latest forward, detached and copied. With a sink, it is called
    inside the forward as `sink(name, activation)`, with an activation that is detached but not copied: later
    operations of the model may change it. Activations stay on their device; the module's output does not change.

    Args:
        module: the module.
        points: module paths or hook points, with different names.
        sink: receives the activations.
        reduce: what is kept of equivariant columns of points with `irreps` (`latentcmp.hooks.layout.reduce_columns`).

    Raises:
        HookError: a point does not exist or cannot be tapped; at the end of the block, a hook was never called.
    """

    def __init__(self, module: nn.Module, points: Points, sink: Sink | None = None, reduce: Reduce = "full") -> None:
        chosen = [points] if isinstance(points, (str, HookPoint)) else list(points)
        self.points = {point.name: point for point in map(as_point, chosen)}
        if not self.points:
            raise HookError("no hook points were given; name at least one module path")
        if len(self.points) < len(chosen):
            raise HookError(f"hook points must have different names, got {', '.join(str(point) for point in chosen)}")
        self._modules = {name: _tappable(module, point) for name, point in self.points.items()}
        self._sink = sink or self._keep
        self._reduce = reduce
        self._values: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []
        self.fires = dict.fromkeys(self.points, 0)

    def __enter__(self) -> "Tap":
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._hook(self.points[name])))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if kind is None:
            self.check()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.points:
            raise KeyError(f"{name!r} is not tapped; the tapped points are {', '.join(self.points)}")
        if name not in self._values:
            raise HookError(f"{self.points[name]} has no activation yet; run a forward inside the with block")
        return self._values[name]

    def check(self, forwards: int | None = None) -> None:
        """Check that the hooks were called.

        Args:
            forwards: number of forwards; None: check only that every hook was called.

        Raises:
            HookError: a hook was not called, or not as often as its point declares.
        """
        for name, count in self.fires.items():
            point = self.points[name]
            if count == 0:
                raise HookError(
                    f"{point} never fired: its module was not called. Compiled, scripted and traced modules run "
                    "without hooks, and so does a direct call of module.forward(...); tap the eager model, before "
                    "torch.compile"
                )
            if forwards is not None and count != forwards * point.fires:
                raise HookError(
                    f"{point} fired {count} times in {forwards} forwards, declared {point.fires} per forward"
                )

    def _hook(self, point: HookPoint) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if torch._C._current_graph_task_id() != -1:
                return  # activation checkpointing runs the forward again inside backward
            taken = self.fires[point.name] % point.fires == point.call
            self.fires[point.name] += 1
            if taken:
                value = point.take(output).detach()
                self._sink(point.name, reduce_columns(value, point.irreps, self._reduce))

        return hook

    def _keep(self, name: str, value: Tensor) -> None:
        self._values[name] = value.clone()  # a later in-place operation of the model would change it


def tap(module: nn.Module, points: Points, sink: Sink | None = None, reduce: Reduce = "full") -> Tap:
    """Tap activations of a module inside a `with` block.

    Args:
        module: the module, eager.
        points: module paths or `HookPoint`s.
        sink: receives the activations as they are computed (see `Tap`).
        reduce: what is kept of equivariant columns of points with `irreps` (`latentcmp.hooks.layout.reduce_columns`).

    Raises:
        HookError: a path is unknown or its module is scripted or compiled; at the end of the block, a hook was never
            called.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> with tap(model, ["0", "1"]) as activations:
        ...     output = model(torch.ones(5, 2))
        >>> activations["1"].shape
        torch.Size([5, 3])
        >>> torch.equal(activations["0"].tanh(), activations["1"])
        True
    """
    return Tap(module, points, sink, reduce)


def _tappable(root: nn.Module, point: HookPoint) -> nn.Module:
    compiled = [name for name, module in root.named_modules() if _is_compiled(module)]
    if compiled:
        where = f"submodule {compiled[0]!r}" if compiled[0] else f"this {type(root).__name__}"
        raise HookError(
            f"{where} is already compiled, and hooks added now would never fire; tap the eager module first "
            "(for a torch.compile wrapper: module._orig_mod) and compile it inside the with block"
        )
    module = find_module(root, point.path)
    if isinstance(module, torch.jit.ScriptModule):
        raise HookError(
            f"{point} is a ScriptModule, which takes no hooks; load the eager model, or ask the model for its own "
            "feature output (metatomic: 'feature', 'mtt::aux::energy_last_layer_features')"
        )
    return module


def _is_compiled(module: nn.Module) -> bool:
    if getattr(module, "_compiled_call_impl", None) is not None:
        return True
    return type(module).__name__ == "OptimizedModule" and hasattr(module, "_orig_mod")
