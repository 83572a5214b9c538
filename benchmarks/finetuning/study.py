"""Fine-tune CHGNet on the labels of DIEP, and follow what becomes of the pretrained features.

    latentcmp bench finetuning
    latentcmp bench finetuning --quick
    latentcmp bench finetuning --redraw    # finetuning.png from finetuning.json, nothing trained

CHGNet 0.3.0 (PBE+U) learns energies and forces of strained and rattled oxides and fluorides as DIEP (r2SCAN, another
code base, trained on structures off their equilibrium) sees them; `chgnet-r2scan` would be a poor judge, for its own
weights began as those of a PBE CHGNet. The runs see the same batches: all weights, the readout only, all weights with a
`ReconstructionLoss` against the pretrained features, and all weights from a random start, once for as many steps and
once for ten times as many. On the way and at the end the features of each are compared with those before, on held-out
members of the family and on other chemistry. Two models of others stand beside them at the end: `chgnet-r2scan`,
fine-tuned on far more, and `chgnet-0.2.0`, trained on CHGNet's own data from another random start.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from latentcmp.models.card import Adapter
from latentcmp.models.registry import load

from ..run import processor
from .features import LAYERS, Anchor, Probe
from .figure import draw
from .labels import Labelled, element_shift, label, shifted
from .structures import family, other_chemistry
from .training import RUNS, Settings, label_errors, prepared, train

NAME = "finetuning.json"
YARDSTICKS = ("chgnet-r2scan", "chgnet-0.2.0")


@dataclass(frozen=True)
class Size:
    """Copies of each of the 15 parents to train, test and probe on; other structures probed; looks on the way.

    The longer run takes ``longer`` times the steps of the others, and more looks.
    """

    train: int = 7
    test: int = 2
    probe: int = 5
    others: int | None = None
    marks: tuple[int, ...] = (0, 5, 10, 20, 40, 60)
    longer: int = 10

    def looks(self, name: str, steps: int) -> set[int]:
        """The steps at which a run is looked at, its last one included."""
        own = {*(mark for mark in self.marks if mark < steps), steps}
        return own | {self.longer * mark for mark in own} if name.endswith("longer") else own


QUICK = Size(train=1, test=1, probe=1, others=40, marks=(0, 1), longer=2)


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
        """Errors between all models, for both probes and layers: of all rows, and of the median one."""
        found: dict[str, Any] = {}
        for name, probe in self.probes.items():
            features = {model: probe.features(adapter) for model, adapter in models.items()}
            for layer in LAYERS:
                values = {model: of_layers[layer] for model, of_layers in features.items()}
                gfre = probe.gfre(values)
                medians = [[cell.median for cell in row] for row in gfre.summaries]
                found.setdefault(name, {})[layer] = {"gfre": gfre.values.tolist(), "median": medians}
        return {"models": list(models), **found}


def _copies(size: Size) -> dict[str, int]:
    return {"train": size.train, "test": size.test, "family": size.probe}


def train_all(study: Study, settings: Settings, size: Size) -> dict[str, Any]:
    """Train all models; a JSON-ready record of them."""
    followed = {name: follow(study, name, settings, size) for name in RUNS}
    progress = {name: records for name, (_, records) in followed.items()}
    models = {name: adapter for name, (adapter, _) in followed.items()}
    others = {name: load(name) for name in YARDSTICKS}
    models = {"pretrained": study.pretrained, **models, **others, "labeller": study.labeller}
    return {"progress": progress, "matrices": study.matrices(models)}


def follow(study: Study, name: str, settings: Settings, size: Size) -> tuple[Adapter, list[dict[str, Any]]]:
    """Train one model; the model and its records at the steps that are looked at."""
    adapter = prepared(name, study.pretrained, settings.seed)
    anchor = Anchor(study.pretrained, study.train) if name == "anchored" else None
    looks = size.looks(name, settings.steps)
    records: list[dict[str, Any]] = []

    def observe(step: int) -> None:
        if step in looks:
            records.append(study.look(adapter, step))
            print(_line(name, records[-1]), flush=True)

    train(adapter, study.train, replace(settings, steps=max(looks)), anchor, observe)
    return adapter, records


def _line(name: str, record: dict[str, Any]) -> str:
    labels, gfre = record["labels"], record["gfre"]
    errors = ", ".join(
        f"{probe} {found['last']['to']:.3f} / {found['last']['from']:.3f}" for probe, found in gfre.items()
    )
    words = f"{labels['energy']:7.1f} meV/atom {labels['force']:6.1f} meV/A"
    return f"{name:20} step {record['step']:4}  {words}  GFRE to / from pretrained: {errors}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="few structures and one step")
    parser.add_argument("--redraw", action="store_true", help="draw the finetuning.json of --out anew, train nothing")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--rate", type=float, default=Settings.rate)
    parser.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace) -> Path:
    """Run the study, or read it where it is only drawn anew; write finetuning.json and finetuning.png."""
    if options.redraw:
        return write(options.out, json.loads((options.out / NAME).read_text()))
    size = QUICK if options.quick else Size()
    settings = Settings(steps=options.steps or size.marks[-1], rate=options.rate, seed=options.seed)
    started = time.process_time()
    study = Study.of(size, load("chgnet-0.3.0"), load("diep", trust=True))
    found = train_all(study, settings, size)
    seconds = time.process_time() - started
    return write(options.out, {**describe(study, settings, seconds), **found})


def describe(study: Study, settings: Settings, seconds: float) -> dict[str, Any]:
    """What made the numbers."""
    return {
        "device": processor(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "cpu_seconds": round(seconds),
        "settings": asdict(settings),
        "pretrained": study.pretrained.card.name,
        "labeller": study.labeller.card.name,
        "n_atoms": study.n_atoms,
        "element_shift_eV": study.shift,
    }


def write(folder: Path, content: dict[str, Any]) -> Path:
    """finetuning.json and finetuning.png in the folder, each whole or not at all; the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    for target, save in (
        (path, lambda aside: aside.write_text(json.dumps(content, indent=1) + "\n")),
        (path.with_suffix(".png"), lambda aside: draw(content).savefig(aside, dpi=160, format="png")),
    ):
        aside = target.with_name(f".{target.name}.part")
        save(aside)
        os.replace(aside, target)
    return path
