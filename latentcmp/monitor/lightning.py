"""The drift monitor as a callback of Lightning: `from latentcmp.monitor.lightning import DriftCallback`."""

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from latentcmp.errors import MissingPackageError
from latentcmp.hooks.points import HookPoint
from latentcmp.monitor.drift import DriftMonitor, Reference
from latentcmp.monitor.writers import scalars


def _lightning() -> Any:
    """lightning.pytorch, or pytorch_lightning where that is the one in use: their trainers are strangers."""
    names = ["lightning.pytorch", "pytorch_lightning"]
    if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
        names.reverse()
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise MissingPackageError("lightning is missing: pip install lightning")


class DriftCallback(_lightning().Callback):  # type: ignore[misc]
    """Watches layers of the LightningModule; logs to every logger of the trainer after each epoch.

    `points`, `probe`, `reference` and `options` are those of `DriftMonitor`, which is made when training starts,
    on the module where it lies then; a function as probe is called with the LightningModule. Where training runs
    in several processes they share the probe. Records and reference go into the trainer's checkpoints.
    """

    def __init__(
        self,
        points: Iterable[HookPoint | str] | HookPoint | str,
        probe: Any,
        reference: Reference | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.monitor: DriftMonitor | None = None
        self._points = [points] if isinstance(points, (str, HookPoint)) else list(points)
        self._probe, self._reference, self._options = probe, reference, options
        self._state: Mapping[str, Any] | None = None
        self._logged = 0

    @property
    def state_key(self) -> str:
        return f"DriftCallback {', '.join(map(str, self._points))}"

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        group = "world" if trainer.world_size > 1 else None
        options = {"group": group, **self._options}
        self.monitor = DriftMonitor(pl_module, self._points, self._reference, probe=self._probe, **options)
        if self._state is not None:
            self.monitor.load_state_dict(self._state)
            self._logged = len(self._state["records"])
        self.monitor.step(trainer.global_step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        assert self.monitor is not None
        self.monitor.step(trainer.global_step)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        assert self.monitor is not None
        records = self.monitor.compute()
        for record in records[self._logged :]:
            metrics = {f"drift/{name}": value for name, value in scalars(record).items()}
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=record["step"])
        self._logged = len(records)

    def state_dict(self) -> dict[str, Any]:
        return self.monitor.state_dict() if self.monitor else dict(self._state or {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict or None
