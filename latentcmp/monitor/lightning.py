"""The drift monitor as a callback of Lightning."""

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from latentcmp._runtime.types import StateDict
from latentcmp.errors import MissingPackageError
from latentcmp.hooks.points import HookPoint
from latentcmp.monitor.drift import DriftMonitor, Reference
from latentcmp.monitor.writers import scalars


def _lightning() -> Any:
    """Return lightning.pytorch, or pytorch_lightning where that is in use: neither accepts callbacks of the other."""
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
    """Monitor layers of the LightningModule, and log to every logger of the trainer after each epoch.

    The `DriftMonitor` is created when training starts, on the device of the module. A function as probe is called
    with the LightningModule. Several processes share the probe. Records and reference are part of the checkpoints.

    Args:
        points: see `DriftMonitor`.
        probe: see `DriftMonitor`.
        reference: see `DriftMonitor`.
        options: further options of `DriftMonitor`.

    Raises:
        MissingPackageError: lightning is not installed.
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
        """Key of the state of this callback in a checkpoint."""
        return f"DriftCallback {', '.join(map(str, self._points))}"

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Create the monitor, restore its state, and run the first probe."""
        group = "world" if trainer.world_size > 1 else None
        options = {"group": group, **self._options}
        self.monitor = DriftMonitor(pl_module, self._points, self._reference, probe=self._probe, **options)
        if self._state is not None:
            self.monitor.load_state_dict(self._state)
            self._logged = len(self._state["records"])
        self.monitor.step(trainer.global_step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Run the probe if it is due."""
        assert self.monitor is not None
        self.monitor.step(trainer.global_step)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the records that are not yet logged."""
        assert self.monitor is not None
        records = self.monitor.compute()
        for record in records[self._logged :]:
            metrics = {f"drift/{name}": value for name, value in scalars(record).items()}
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=record["step"])
        self._logged = len(records)

    def state_dict(self) -> StateDict:
        """Return the state of the monitor for a checkpoint."""
        return self.monitor.state_dict() if self.monitor else dict(self._state or {})

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Keep the state of a checkpoint for the monitor that is created when training starts."""
        self._state = state_dict or None
