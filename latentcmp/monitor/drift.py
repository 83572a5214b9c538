"""The drift monitor: reconstruction errors between a model in training and a reference, layer by layer."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor

from latentcmp._runtime.distributed import Group
from latentcmp._runtime.types import StateDict
from latentcmp.errors import InputError, LatentcmpError
from latentcmp.features.data import Features
from latentcmp.hooks.layout import REDUCTIONS, Reduce
from latentcmp.hooks.points import HookPoint
from latentcmp.models.card import Adapter
from latentcmp.monitor.labels import Labels
from latentcmp.monitor.layer import as_rows, lay_out, same_layers
from latentcmp.monitor.observation import Observation, empty_record, measure, observe
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
from latentcmp.monitor.writers import Record
from latentcmp.ops.segments import Segments
from latentcmp.statistics.joint_moments import RCOND, Method

Reference = Model | Mapping[str, Tensor | Features] | Features
FORMAT = 2


class DriftMonitor:
    """Run a fixed probe through a model in training and measure its layers against a reference.

    `step(global_step)` runs the probe at the first call and whenever another multiple of `every` has passed, in eval
    mode and without changing the training (`latentcmp.monitor.guard.undisturbed`); between probes no hook is attached.
    Statistics stay on the device until `compute`, or until `max_pending` probes are pending. A failure in a step is a
    NaN with its reason in the record, unless `on_error` is "raise".

    Rows are divided into five folds of groups of structures by a keyed hash of the groups' names. Every row is tested
    once, by ridge maps fitted on the other folds, which also choose their strength, from 1e-5 of the largest singular
    value (local maps: 1e-2). Features and their linear image have a GFRE of this order, 1e-5, not 0 (LFRE: 1e-2), and a
    larger one with few rows for their columns.

    With a process `group` every rank creates the same monitor and runs a part of the batches; the construction,
    `compute` and `state_dict` are then collective, and all ranks get the result of a single process. For LFRE `compute`
    copies the features of the whole probe to every rank.

    Args:
        model: a module or an `Adapter`.
        points: hook points, names of layers (adapters) or module paths.
        reference: another model, features {layer: [n_rows, D]}, or None for the model as it is now.
        probe: for an adapter, structures as `latentcmp.extract` takes them; for a module, a batch or a list of
            batches, where a tuple holds the arguments of the module, a dict its keyword arguments, and a function is
            called with the module to run it.
        every: number of steps between probes.
        segments: structures of the rows of a module's probe, `Segments` or a batch vector [n_rows]; None keeps the
            rows of one batch item together.
        numbers: [n_rows] atomic numbers of the rows of a module's probe.
        resolve: which errors to resolve further: "elements", "structures"; keeps the features of pending probes.
        local: also compute LFRE; keeps these features too.
        reduce: what is kept of equivariant columns.
        method: statistic of the rows of a fold, "gram" or "qr", which is slower.
        seed: key of the hash of groups.
        batch_atoms: atoms of a batch of an adapter.
        gradients: enable gradients, for modules that differentiate inside their forward.
        group: processes that share the probe, see `latentcmp._runtime.distributed`.
        on_error: "record" or "raise".
        max_pending: number of probes whose statistics are kept before they are computed.

    Raises:
        InputError: an argument does not fit, or the probe is too small for a layer.
        HookError: a hook point does not exist or never fires.
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
        method: Method = "gram",
        seed: int = 0,
        batch_atoms: int | None = None,
        gradients: bool = False,
        group: Group = None,
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
            name: lay_out(self._points[name], values, reduce, labels, self._ranks, seed, resolve)
            for name, values in self._run_or_raise(model, self._share).items()
        }
        if reference is not None:
            self._refer(reference)
        self._records: list[Record] = []
        self._pending: list[tuple[int, dict[str, Observation | str]]] = []
        self._due: int | None = None

    def step(self, global_step: int) -> bool:
        """Run the probe if it is due, and return whether it was."""
        if global_step // self.every == self._due:
            return False
        self._due = global_step // self.every
        self._pending.append((int(global_step), self._observe()))
        if len(self._pending) >= self.max_pending:
            self.compute()
        return True

    def compute(self) -> list[Record]:
        """Return all records so far, one for each probe: {"step": int, "layers": {name: record}}.

        The record of a layer has `gfre_to_reference`, GFRE(now -> reference), and `gfre_from_reference`,
        GFRE(reference -> now), the root mean squares of the errors of all rows, each in units of the spread of the
        training rows of its fold; `linear_cka` and `effective_rank` (of the layer now) of all rows; with `local` both
        LFRE; and under "elements" or "structures" both GFRE of the rows of each. After a failure all are NaN and
        `reason` says why; otherwise `reason` is None. Synchronises with the device.
        """
        pending, self._pending = self._pending, []
        everywhere = self._ranks.gather([(step, _reasons(seen)) for step, seen in pending])
        for place, (step, seen) in enumerate(pending):
            reasons = _agreed(everywhere, place, step, seen)
            layers = {name: self._measured(name, seen[name], reasons[name]) for name in self._layers}
            self._records.append({"step": step, "layers": layers})
        return deepcopy(self._records)

    def state_dict(self) -> StateDict:
        """Return records and reference features as plain containers and tensors, for the checkpoint of the training."""
        records = self.compute()
        reference = {
            name: self._ranks.assemble(layer.positions, layer.reference) for name, layer in self._layers.items()
        }
        return {"format": FORMAT, "due": self._due, "records": records, "reference": reference}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore records and reference of a `state_dict`; InputError for another probe or other layers."""
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
        """Activations of all points; where a rank has none for one, all ranks raise."""
        points = points_of(model, self._given)
        found, failed = activations(module_of(model), share, points, self._gradients)
        for reasons in self._ranks.gather({name: str(error) for name, error in failed.items()}):
            for name, reason in reasons.items():
                raise InputError(f"the probe gives no features of layer {name!r}: {reason}") from failed.get(name)
        return found

    def _refer(self, reference: Reference) -> None:
        """Set the reference: the features of a model, or given ones, of which this rank keeps its rows."""
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
            except Exception as error:  # the training continues whatever was raised
                found[name] = self._reason(error)
        return found

    def _measured(self, name: str, seen: Observation | str, reason: str) -> Record:
        if isinstance(seen, str) or reason:
            return empty_record(reason, self.local)
        try:
            return {**measure(self._layers[name], seen, self._ranks, self.local), "reason": None}
        except Exception as error:  # as above
            return empty_record(self._reason(error), self.local)

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
    """For each layer the first reason why a rank has no statistics for it, or "", the same on all ranks."""
    if len({tuple(step for step, _ in pending) for pending in everywhere}) > 1:
        return dict.fromkeys(seen, "the processes of the group probed at different steps")
    of_ranks = [pending[place][1] for pending in everywhere]
    return {name: next((reasons[name] for reasons in of_ranks if reasons[name]), "") for name in seen}
