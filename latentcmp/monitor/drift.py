"""The drift monitor: how far a model in training has moved from a reference, layer by layer."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor

from latentcmp.errors import InputError, LatentcmpError
from latentcmp.features.data import Features
from latentcmp.hooks.layout import REDUCTIONS, Reduce
from latentcmp.hooks.points import HookPoint
from latentcmp.models.card import Adapter
from latentcmp.monitor.labels import Labels
from latentcmp.monitor.layer import as_rows, lay_out, same_layers
from latentcmp.monitor.measure import Observation, measure, nothing, observe
from latentcmp.monitor.probe import (
    Model,
    Share,
    activations,
    checked_probe,
    device_of,
    module_of,
    points_of,
    share_of_batches,
    share_of_systems,
)
from latentcmp.monitor.ranks import Ranks
from latentcmp.ops.segments import Segments
from latentcmp.statistics.joint_moments import RCOND, Method

Reference = Model | Mapping[str, Tensor | Features] | Features
FORMAT = 1


class DriftMonitor:
    """Runs a fixed probe through a model in training and measures its layers against a reference.

    `model` is a module or an `Adapter`; `points` are hook points, names of layers (adapters) or module paths. `probe`
    is for an adapter whatever `extract` takes as structures; for a module a batch or a list of batches, where a tuple
    holds the module's arguments, a dict its keyword arguments, and a function is called with the module to run it.
    `reference` is another model, features {layer: [n_rows, D]}, or None: the model as it is now.

    `step(global_step)` runs the probe at the first call and whenever another multiple of `every` was passed, in eval
    mode, and leaves no trace in the training (`latentcmp.monitor.guard.undisturbed`); in between no hook hangs in the
    model. Its numbers stay on the device until `compute`, or until `max_pending` probes wait. What goes wrong in a
    step becomes a NaN with its reason in the record, unless `on_error` is "raise".

    Rows split by structure, by a keyed hash of its name: adapters know their structures, for modules `segments` tells
    (`Segments` or the batch vector [n_rows]); without, rows of one item of a batch stay together. `numbers` [n_rows]
    are atomic numbers. `resolve` asks for errors of each of "elements" and "structures" where they are known. `local`
    asks for LFRE, which keeps the features of every pending probe. `gradients` is for modules that differentiate
    inside their forward. With a process `group` every rank makes the monitor alike and runs its share of the batches;
    `compute`, `state_dict` and the construction are then collective, and all ranks get the answer of one process. LFRE
    has its neighbours everywhere: for it `compute` brings the features of the whole probe to every rank.

    Raises InputError or HookError at construction for all that does not fit, a probe too small for a layer included.
    """

    def __init__(
        self,
        model: Model,
        points: Iterable[HookPoint | str] | HookPoint | str,
        reference: Reference | None = None,
        *,
        probe: Any,
        every: int = 100,
        segments: Segments | Tensor | None = None,
        numbers: Any = None,
        resolve: Sequence[str] = ("elements",),
        local: bool = False,
        reduce: Reduce = "invariant",
        method: Method = "qr",
        test_fraction: float = 0.2,
        seed: int = 0,
        batch_atoms: int | None = None,
        gradients: bool = False,
        group: Any = None,
        on_error: Literal["record", "raise"] = "record",
        max_pending: int = 64,
    ) -> None:
        _check_options(every, max_pending, resolve, reduce, method, on_error)
        self.every, self.local, self.on_error, self.max_pending = every, local, on_error, max_pending
        self._model, self._reduce, self._method, self._gradients = model, reduce, method, gradients
        self._ranks = Ranks(group)
        self._given = [points] if isinstance(points, (str, HookPoint)) else list(points)
        self._points = points_of(model, self._given)
        self._device = device_of(module_of(model))
        self._probe, self._batch_atoms = checked_probe(model, reference, probe), batch_atoms
        self._share = self._share_of(model)
        labels = Labels.of_systems(self._probe) if isinstance(model, Adapter) else Labels.of_rows(segments, numbers)
        self._layers = {
            name: lay_out(self._points[name], values, reduce, labels, self._ranks, test_fraction, seed, resolve)
            for name, values in self._run_or_raise(model, self._share).items()
        }
        if reference is not None:
            self._refer(reference)
        self._records: list[dict[str, Any]] = []
        self._pending: list[tuple[int, dict[str, Observation | str]]] = []
        self._due: int | None = None

    def step(self, global_step: int) -> bool:
        """Run the probe if it is due. True where it was."""
        if global_step // self.every == self._due:
            return False
        self._due = global_step // self.every
        self._pending.append((global_step, self._observe()))
        if len(self._pending) >= self.max_pending:
            self.compute()
        return True

    def compute(self) -> list[dict[str, Any]]:
        """All records so far, one a probe: {"step": int, "layers": {name: record}}.

        The record of a layer holds `gfre_to_reference`, GFRE(now -> reference), and `gfre_from_reference`,
        GFRE(reference -> now), over test rows; `linear_cka` and `effective_rank` (of the layer now) over training rows;
        with `local` both LFRE; and under "elements" or "structures" both GFRE for the test rows of each. Where there is
        no number all are NaN and `reason` says why, which is None otherwise. Waits for the device.
        """
        pending, self._pending = self._pending, []
        everywhere = self._ranks.gather([(step, _reasons(seen)) for step, seen in pending])
        for place, (step, seen) in enumerate(pending):
            reasons = _agreed(everywhere, place, step, seen)
            layers = {name: self._measured(name, seen[name], reasons[name]) for name in self._layers}
            self._records.append({"step": step, "layers": layers})
        return deepcopy(self._records)

    def state_dict(self) -> dict[str, Any]:
        """Records and reference features as plain containers and tensors, for the training's own checkpoint."""
        records = self.compute()
        reference = {
            name: self._ranks.assemble(layer.positions, layer.reference) for name, layer in self._layers.items()
        }
        return {"format": FORMAT, "due": self._due, "records": records, "reference": reference}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken, with its reference. Raises InputError for another probe or layers."""
        if not isinstance(state, Mapping) or state.get("format") != FORMAT:
            raise InputError("this is no state of a drift monitor of this version; make the monitor anew")
        self._refer(state["reference"])
        self._records, self._due = deepcopy(list(state["records"])), state["due"]
        self._pending = []

    def _share_of(self, model: Model) -> Share:
        if isinstance(model, Adapter):
            return share_of_systems(model, self._probe, self._ranks, self._batch_atoms)
        return share_of_batches(module_of(model), self._probe, self._ranks)

    def _run_or_raise(self, model: Model, share: Share) -> dict[str, list[Tensor]]:
        """Activations of all points; where a rank has none of one, all ranks raise."""
        points = points_of(model, self._given)
        found, failed = activations(module_of(model), share, points, self._gradients)
        for reasons in self._ranks.gather({name: str(error) for name, error in failed.items()}):
            for name, reason in reasons.items():
                raise InputError(f"the probe gives no features of layer {name!r}: {reason}") from failed.get(name)
        return found

    def _refer(self, reference: Reference) -> None:
        """Take the reference features: those of a model, or given ones, of which this rank keeps its rows."""
        if isinstance(reference, Features):
            reference = dict.fromkeys(self._layers, reference)
        if isinstance(reference, Mapping):
            given = {name: v.values if isinstance(v, Features) else v for name, v in reference.items()}
            same_layers(self._layers, given)
            for name, layer in self._layers.items():
                layer.refer(given[name][torch.from_numpy(layer.rows).to(given[name].device)])
            return
        points = points_of(reference, self._given)
        for name, values in self._run_or_raise(reference, self._share_of(reference)).items():
            self._layers[name].refer(as_rows(values, points[name], self._reduce))

    def _observe(self) -> dict[str, Observation | str]:
        found: dict[str, Any] = {}
        module = module_of(self._model)
        try:
            if device_of(module) != self._device:
                raise InputError(f"the model is on {device_of(module)}, but was on {self._device} for this monitor")
            found, failed = activations(module, self._share, self._points, self._gradients)
        except Exception as error:
            failed = dict.fromkeys(self._layers, error)
        for name, layer in self._layers.items():
            try:
                if name in failed:
                    raise failed[name]
                with torch.inference_mode(False), torch.no_grad():
                    found[name] = observe(layer, found[name], self._reduce, self._method, self.local)
            except Exception as error:  # whatever it is, the training goes on
                found[name] = self._reason(error)
        return found

    def _measured(self, name: str, seen: Observation | str, reason: str) -> dict[str, Any]:
        if isinstance(seen, str) or reason:
            return nothing(reason, self.local)
        try:
            return {**measure(self._layers[name], seen, self._ranks, self.local), "reason": None}
        except Exception as error:  # as above
            return nothing(self._reason(error), self.local)

    def _reason(self, error: Exception) -> str:
        if self.on_error == "raise":
            raise error
        return str(error) if isinstance(error, LatentcmpError) else f"{type(error).__name__}: {error}"


def _check_options(
    every: int, max_pending: int, resolve: Sequence[str], reduce: str, method: str, on_error: str
) -> None:
    if every < 1 or max_pending < 1:
        raise InputError(f"every and max_pending must be at least 1, got {every} and {max_pending}")
    choices: tuple[tuple[str, set[str], Iterable[str]], ...] = (
        ("resolve", set(resolve), ("elements", "structures")),
        ("reduce", {reduce}, REDUCTIONS),
        ("method", {method}, RCOND),
        ("on_error", {on_error}, ("record", "raise")),
    )
    for name, given, options in choices:
        if not given <= set(options):
            raise InputError(f"{name} must be of {', '.join(options)}, got {', '.join(map(repr, given))}")


def _reasons(seen: Mapping[str, Observation | str]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else "" for name, value in seen.items()}


def _agreed(everywhere: Sequence[Any], place: int, step: int, seen: Mapping[str, Any]) -> dict[str, str]:
    """For each layer why some rank has no number for it, or "": all ranks must come to the same answer."""
    if len({tuple(step for step, _ in pending) for pending in everywhere}) > 1:
        return dict.fromkeys(seen, "the processes of the group probed at different steps")
    of_ranks = [pending[place][1] for pending in everywhere]
    return {name: next((reasons[name] for reasons in of_ranks if reasons[name]), "") for name in seen}
