"""The study of the paper's findings: figures of a small run against NumPy, and criteria on tables made up for them."""

import json
from importlib import import_module
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import latentcmp
from latentcmp.errors import InputError
from latentcmp.measures.bootstrap import Summary
from latentcmp.measures.error_matrix import ErrorMatrix
from latentcmp.measures.strength_search import default_strengths
from latentcmp.systems.builtin import builtin_systems
from latentcmp.systems.group_folds import GroupFolds, block_of_groups
from tests.measures.fold_cases import row_squares

HOME = "latentcmp.benchmarks" if find_spec("latentcmp.benchmarks") else "benchmarks"
claims, features, finding_module, study, tables = (
    import_module(f"{HOME}.findings.{name}") for name in ("claims", "features", "finding", "study", "tables")
)
LAYERS = ("last", "backbone")


class QuickRun(NamedTuple):
    """What a quick run wrote."""

    stores: Path
    found: dict[str, Any]
    table: str


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory, all_models: None) -> QuickRun:
    stores, out = tmp_path_factory.mktemp("stores"), tmp_path_factory.mktemp("out")
    folders = ["--features", str(stores), "--out", str(out)]
    path = import_module(f"{HOME}.run").main(["findings", "--quick", "--seeds", "0", "1", *folders])
    return QuickRun(stores, json.loads(path.read_text()), path.with_suffix(".md").read_text())


def answer(quick: QuickRun, words: str) -> dict[str, Any]:
    (found,) = (finding for finding in quick.found["findings"] if words in finding["finding"])
    return found


def test_errors_of_fine_tuning_are_those_of_rows_of_the_models(quick: QuickRun) -> None:
    """Features of each layer extracted apart; folds, ridge and strengths written out with NumPy."""
    figures = answer(quick, "fine-tuning")["figures"]
    systems = {system.id: system for system in builtin_systems() if system.subset.startswith("aflow")}
    chosen = [systems[id] for id in sorted(systems)[:48]]
    groups = [system.group for system in chosen for _ in range(len(system))]
    folds = GroupFolds.of(len(set(groups)))
    fold = np.array(folds.fold_of_block)[block_of_groups(groups, folds.n_blocks)]
    models = ("chgnet-0.3.0", "chgnet-r2scan", "chgnet-0.2.0")
    atoms = [system.atoms for system in chosen]
    expected = {}
    for layer in LAYERS:
        rows = {model: latentcmp.extract(model, atoms, layer, "cpu").values.double().numpy() for model in models}
        for a, b in [*permutations(models[:2]), *permutations(models[::2])]:
            squares = row_squares(rows[a], rows[b], fold, default_strengths(), "ridge")
            expected[f"{a} -> {b}, {layer}"] = float(squares.mean() ** 0.5)
    assert figures == pytest.approx(expected, rel=1e-4)  # float32 features of other batches
    backbone, last = (
        max(expected[f"{a} -> {b}, {layer}"] for a, b in permutations(models[:2]))
        < min(expected[f"{a} -> {b}, {layer}"] for a, b in permutations(models[::2]))
        for layer in ("backbone", "last")
    )
    assert answer(quick, "fine-tuning")["agrees"] == {2: "yes", 1: "partly", 0: "no"}[backbone + last]


def test_a_small_run_asks_what_its_checkpoints_can_answer(quick: QuickRun) -> None:
    asked = [finding["finding"] for finding in quick.found["findings"]]
    assert len(asked) == len(claims.CLAIMS) - 3  # heads, sizes and snapshots need SevenNets
    assert not [words for words in asked if "heads" in words or "sizes" in words or "snapshots" in words]


def test_what_made_the_numbers_is_written_beside_them(quick: QuickRun) -> None:
    found = quick.found
    assert (found["seeds"], found["structures"]["n_systems"]) == ([0, 1], 48)
    assert found["device"]
    assert found["date"].endswith("+00:00")
    assert found["versions"]["torch"] == torch.__version__
    assert {len(model["sha256"]) for model in found["models"].values()} == {64}
    assert list(found["models"]) == list(study.QUICK.models)
    gfre = np.array(found["errors"]["gfre"]["values"])
    assert found["errors"]["gfre"]["names"] == [f"{model}@{layer}" for layer in LAYERS for model in study.QUICK.models]
    assert answer(quick, "backbone contains")["figures"]["diep, BB -> LL"] == gfre[7, 3]


def test_the_markdown_table_has_a_row_for_each_finding(quick: QuickRun) -> None:
    rows = [line.split(" | ") for line in quick.table.splitlines() if line.startswith("| ")]
    assert len({len(row) for row in rows}) == 1
    assert [(row[0].removeprefix("| "), row[3].split(";")[0]) for row in rows[1:]] == [
        (finding["finding"], finding["agrees"]) for finding in quick.found["findings"]
    ]
    assert quick.found["date"] in quick.table


def test_answers_of_every_seed_are_kept_and_those_that_differ_are_named(quick: QuickRun) -> None:
    for finding in quick.found["findings"]:
        assert list(finding["at_seeds"]) == ["0", "1"]
        assert finding["at_seeds"]["0"] == finding["agrees"]
    yes, partly = (finding_module.Finding("it holds", "yes", {}, agrees, "") for agrees in ("yes", "partly"))
    (found,) = finding_module.with_seeds({3: [yes], 4: [yes], 7: [partly]})
    assert found.answer == "yes; partly with seed 7"
    assert yes.answer == "yes"


def test_an_interrupted_extraction_continues_with_what_is_missing(
    quick: QuickRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = study.QUICK
    screening = features.screened(size.models, size.subset, size.limit)
    folder = features.store_path(quick.stores, "chgnet-0.3.0", "backbone")
    before = latentcmp.open_features(folder).to_features().values
    (folder / "index.json").unlink()
    max(folder.glob("*.safetensors")).unlink()
    found = features.extract_layers(quick.stores, "chgnet-0.3.0", screening)
    assert capsys.readouterr().out == "chgnet-0.3.0: 1 of 1 shards of features\n"
    assert torch.equal(found["backbone"].to_features().values, before)


def test_features_of_other_structures_are_not_taken(quick: QuickRun) -> None:
    fewer = features.screened(study.QUICK.models, study.QUICK.subset, 20)
    with pytest.raises(InputError, match="contains other features"):
        features.extract_layers(quick.stores, "chgnet-0.3.0", fewer)


def made_up(models: tuple[str, ...], errors: dict[str, float], between: float = 0.8, within: float = 0.4) -> Any:
    """Tables of these errors by "SOURCE@LAYER TARGET@LAYER"; others depend on the families alone.

    Intervals reach 0.1 to both sides.
    """
    names = tuple(f"{model}@{layer}" for layer in LAYERS for model in models)

    def value(source: str, target: str) -> float:
        same = tables.are_related(source.split("@")[0], target.split("@")[0])
        return errors.get(f"{source} {target}", within if same else between)

    def matrix(measure: str) -> ErrorMatrix:
        cells = [[value(source, target) for target in names] for source in names]
        summaries = [[Summary(e, e / 2, e - 0.1, e + 0.1, 0.1, "") for e in row] for row in cells]
        return ErrorMatrix(measure, names, torch.tensor(cells, dtype=torch.float64), summaries)

    orders = torch.tensor([[0, 0.3, 0.5, 0.6], [0, 0, 0.3, 0.5], [0, 0, 0, 0.2], [0, 0, 0, 0]], dtype=torch.float64)
    by_model = {model: ErrorMatrix("gfre", ("1", "2", "3", "4"), orders) for model in models[:2]}
    return tables.ErrorTables(models, matrix("gfre"), matrix("lfre"), by_model)


CHGNETS = ("chgnet-0.3.0", "chgnet-r2scan", "chgnet-0.2.0", "diep")
SEVENNETS = ("sevennet-mf-0", "sevennet-mf-0-r2scan", "sevennet-0", "sevennet-l3i5", "diep")
PAIR = ("chgnet-0.3.0", "chgnet-0.2.0")


def test_asymmetry_is_judged_by_intervals() -> None:
    there = "chgnet-0.3.0@last chgnet-0.2.0@last"
    assert claims.asymmetry(made_up(CHGNETS, {there: 0.55})).agrees == "no"  # .3 to .5 beside .45 to .65
    assert claims.asymmetry(made_up(CHGNETS, {there: 0.61})).agrees == "partly"  # one of six pairs
    both = {there: 0.61, "diep@last chgnet-0.2.0@last": 0.2}
    found = claims.asymmetry(made_up(CHGNETS, both))
    assert found.agrees == "yes"
    assert found.figures["share of pairs with disjoint intervals"] == pytest.approx(2 / 6)
    assert found.figures["diep -> chgnet-0.2.0"] == 0.2


def test_families_are_judged_by_means_and_by_the_best_source() -> None:
    assert claims.families(made_up(CHGNETS, {})).agrees == "yes"
    assert claims.families(made_up(CHGNETS, {"diep@last chgnet-0.2.0@last": 0.3})).agrees == "partly"
    assert claims.families(made_up(CHGNETS, {}, between=0.3)).agrees == "no"


def test_the_best_source_is_judged_as_a_target() -> None:
    def errors(source: float, target: float) -> dict[str, float]:
        others = [model for model in CHGNETS if model != "diep"]
        into, out = ({f"{m}@last diep@last": target for m in others}, {f"diep@last {m}@last": source for m in others})
        return into | out

    both = claims.richest_and_hardest(made_up(CHGNETS, errors(source=0.1, target=0.9)))
    assert both.agrees == "yes"
    assert both.figures["best source diep, as source"] == pytest.approx(0.1)
    assert both.figures["best source diep, as target"] == pytest.approx(0.9)
    assert claims.richest_and_hardest(made_up(CHGNETS, errors(source=0.1, target=0.1))).agrees == "no"


def closer(pair: tuple[str, str], layers: tuple[str, ...], error: float) -> dict[str, float]:
    return {f"{a}@{layer} {b}@{layer}": error for layer in layers for a, b in permutations(pair)}


@pytest.mark.parametrize(("layers", "agrees"), [((), "no"), (LAYERS[:1], "partly"), (LAYERS, "yes")])
def test_pairs_of_checkpoints_are_judged_layer_by_layer(layers: tuple[str, ...], agrees: str) -> None:
    tuned = made_up(CHGNETS, closer(claims.TUNED, layers, 0.39))  # independent ones: .4
    assert claims.fine_tuning(tuned).agrees == agrees
    heads = made_up(SEVENNETS, closer(claims.HEADS, layers, 0.79), within=0.81)  # between families: .8
    assert claims.two_heads(heads).agrees == agrees
    sizes = made_up(SEVENNETS, closer(claims.SIZES, layers, 0.214))
    assert claims.sizes(sizes).agrees == agrees


def test_one_direction_that_is_far_is_enough_to_disagree() -> None:
    errors = closer(claims.TUNED, LAYERS, 0.39) | {"chgnet-r2scan@last chgnet-0.3.0@last": 0.41}
    assert claims.fine_tuning(made_up(CHGNETS, errors)).agrees == "partly"


def test_layers_of_one_model_are_judged_by_direction() -> None:
    down = {f"{model}@backbone {model}@last": 0.3 for model in CHGNETS}
    for n, agrees in ((2, "no"), (3, "partly"), (4, "yes")):
        found = claims.backbone_holds_more(made_up(CHGNETS, dict(list(down.items())[:n])))
        assert found.agrees == agrees
        assert found.figures["chgnet-0.3.0, BB -> LL"] == 0.3
        assert found.figures["chgnet-0.3.0, LL -> BB"] == 0.4


def test_backbones_are_judged_by_all_pairs_and_by_those_of_families() -> None:
    assert claims.backbones_are_closer(made_up(CHGNETS, {})).agrees == "no"
    between = {f"diep@backbone {model}@backbone": 0.7 for model in CHGNETS[:3]}
    found = claims.backbones_are_closer(made_up(CHGNETS, between))
    assert found.agrees == "yes"
    assert found.figures["pairs of two families, backbone"] == pytest.approx(0.75)
    assert found.figures["all pairs, last"] == pytest.approx(0.6)
    within = closer(PAIR, ("backbone",), 0.7)
    assert claims.backbones_are_closer(made_up(CHGNETS, between | within)).agrees == "partly"


def test_orders_are_judged_up_and_back() -> None:
    found = claims.cumulants(made_up(CHGNETS, {}))
    assert found.agrees == "yes"
    assert found.figures["chgnet-0.3.0, 3 -> 4"] == 0.2
    made = made_up(CHGNETS, {})
    made.orders["chgnet-0.3.0"].values[3, 0] = 0.05
    assert claims.cumulants(made).agrees == "partly"
    made.orders["chgnet-0.3.0"].values[2, 3] = 0.05
    assert claims.cumulants(made).agrees == "no"


def test_local_errors_are_judged_by_means_and_medians() -> None:
    made = made_up(CHGNETS, {})
    assert claims.local_errors(made).agrees == "no"
    lower = made_up(CHGNETS, {}, within=0.2)
    found = claims.local_errors(tables.ErrorTables(CHGNETS, made.gfre, lower.lfre, made.orders))
    assert found.agrees == "yes"
    assert found.figures["mean, LFRE"] == pytest.approx(0.2)
    assert found.figures["mean of the medians, GFRE"] == pytest.approx(0.2)
