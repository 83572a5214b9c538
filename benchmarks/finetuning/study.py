"""Fine-tune CHGNet on the labels of DIEP, and follow what becomes of the pretrained features.

    latentcmp bench finetuning
    latentcmp bench finetuning --quick

CHGNet 0.3.0 (PBE+U) learns energies and forces of strained and rattled oxides and fluorides as DIEP (r2SCAN, another
code base, trained on structures off their equilibrium) sees them; `chgnet-r2scan` would be a poor judge, for its own
weights began as those of a PBE CHGNet. Four runs see the same batches: all weights, the readout only, all weights from
a random start, and all weights with a `ReconstructionLoss` against the pretrained features. On the way and at the end
the features of each are compared with those before, on held-out members of the family and on other chemistry.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from latentcmp import compare_features
from latentcmp.models.card import Adapter
from latentcmp.models.registry import load

from .features import LAYERS, Anchor, Probe
from .figure import draw
from .labels import Labelled, element_shift, label, shifted
from .structures import family, other_chemistry
from .training import RUNS, Settings, label_errors, prepared, train

RESULTS = Path("benchmarks/results")


@dataclass(frozen=True)
class Size:
    """Copies of each of the 15 parents to train, test and probe on; other structures probed; looks on the way."""

    train: int = 7
    test: int = 2
    probe: int = 5
    others: int | None = None
    marks: tuple[int, ...] = (0, 5, 10, 20, 40, 60)


QUICK = Size(train=1, test=1, probe=1, others=40, marks=(0, 1))


@dataclass(frozen=True)
class Study:
    """What all runs share."""

    pretrained: Adapter
    labeller: Adapter
    train: list[Labelled]
    test: list[Labelled]
    probes: dict[str, Probe]
    shift: dict[int, float]
    n_atoms: dict[str, int]

    @classmethod
    def of(cls, size: Size, pretrained: Adapter, labeller: Adapter) -> Study:
        """Make the structures, label them, and take the energies of the elements off."""
        systems = {part: family(copies, seed, part) for seed, (part, copies) in enumerate(_copies(size).items())}
        systems["other chemistry"] = other_chemistry(size.others)
        labelled = {part: label(systems[part], pretrained, labeller) for part in ("train", "test")}
        shift = element_shift(systems["train"], labelled["train"], pretrained)
        train, test = (shifted(systems[part], labelled[part], shift) for part in ("train", "test"))
        probes = {name: Probe(systems[name], pretrained) for name in ("family", "other chemistry")}
        n_atoms = {name: sum(map(len, found)) for name, found in systems.items()}
        return cls(pretrained, labeller, train, test, probes, shift, n_atoms)

    def look(self, adapter: Adapter, step: int) -> dict[str, Any]:
        """One record of a run: errors of the labels (test), reconstruction errors of the probes."""
        return {
            "step": step,
            "labels": label_errors(adapter, self.test),
            "gfre": {name: probe.errors(adapter) for name, probe in self.probes.items()},
        }

    def matrices(self, models: dict[str, Adapter]) -> dict[str, Any]:
        """Errors between all models, for both probes and layers."""
        found: dict[str, Any] = {}
        for name, probe in self.probes.items():
            features = {model: probe.features(adapter) for model, adapter in models.items()}
            for layer in LAYERS:
                values = {model: of_layers[layer] for model, of_layers in features.items()}
                comparison = compare_features(values, groups=probe.groups, measures=["gfre"])
                found.setdefault(name, {})[layer] = comparison.gfre.values.tolist()
        return {"models": list(models), **found}


def _copies(size: Size) -> dict[str, int]:
    return {"train": size.train, "test": size.test, "family": size.probe}


def train_all(study: Study, settings: Settings, marks: Sequence[int]) -> dict[str, Any]:
    """Train the four models; a JSON-ready record of them."""
    followed = {name: follow(study, name, settings, marks) for name in RUNS}
    progress = {name: records for name, (_, records) in followed.items()}
    models = {name: adapter for name, (adapter, _) in followed.items()}
    models = {"pretrained": study.pretrained, **models, "labeller": study.labeller}
    return {"progress": progress, "matrices": study.matrices(models)}


def follow(study: Study, name: str, settings: Settings, marks: Sequence[int]) -> tuple[Adapter, list[dict[str, Any]]]:
    """Train one model; the model and its records at the steps that are marked."""
    adapter = prepared(name, study.pretrained, settings.seed)
    anchor = Anchor(study.pretrained, study.train) if name == "anchored" else None
    records: list[dict[str, Any]] = []

    def observe(step: int) -> None:
        if step in marks:
            records.append(study.look(adapter, step))
            print(_line(name, records[-1]), flush=True)

    train(adapter, study.train, settings, anchor, observe)
    return adapter, records


def _line(name: str, record: dict[str, Any]) -> str:
    labels, gfre = record["labels"], record["gfre"]
    errors = ", ".join(
        f"{probe} {found['last']['to']:.3f} / {found['last']['from']:.3f}" for probe, found in gfre.items()
    )
    words = f"{labels['energy']:7.1f} meV/atom {labels['force']:6.1f} meV/A"
    return f"{name:13} step {record['step']:4}  {words}  GFRE to / from pretrained: {errors}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="few structures and one step")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--rate", type=float, default=Settings.rate)
    parser.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace) -> Path:
    """Run the study; write finetuning.json and finetuning.png, whole or not at all."""
    size = QUICK if options.quick else Size()
    settings = Settings(steps=options.steps or size.marks[-1], rate=options.rate, seed=options.seed)
    started = time.process_time()
    study = Study.of(size, load("chgnet-0.3.0"), load("diep", trust=True))
    found = train_all(study, settings, (*size.marks, settings.steps))
    seconds = time.process_time() - started
    return write(options.out, {**describe(study, settings, seconds), **found})


def describe(study: Study, settings: Settings, seconds: float) -> dict[str, Any]:
    """What made the numbers."""
    return {
        "device": platform.processor() or platform.machine(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "cpu_seconds": round(seconds),
        "settings": asdict(settings),
        "pretrained": study.pretrained.card.name,
        "labeller": study.labeller.card.name,
        "n_atoms": study.n_atoms,
        "element_shift_eV": study.shift,
    }


def write(folder: Path, content: dict[str, Any]) -> Path:
    """finetuning.json and finetuning.png in the folder; the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "finetuning.json"
    for target, save in (
        (path, lambda aside: aside.write_text(json.dumps(content, indent=1) + "\n")),
        (path.with_suffix(".png"), lambda aside: draw(content).savefig(aside, dpi=160, format="png")),
    ):
        aside = target.with_name(f".{target.name}.part")
        save(aside)
        os.replace(aside, target)
    return path
