"""Comparisons shared out over shards and ranks: the same bits, and no shard lost, counted twice or mixed up."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file

import latentcmp
from latentcmp._runtime.progress import Timing
from latentcmp.comparison.config import CompareConfig
from latentcmp.comparison.run import finish, run, run_shard
from latentcmp.comparison.shards import Shard, merge_shards
from latentcmp.errors import InputError
from latentcmp.features.data import Features
from latentcmp.features.open import open_features
from latentcmp.systems.system import SystemRecord

COUNTS = np.random.default_rng(1).integers(2, 30, 160)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Stored features of two made-up models on 160 structures: sources that need no model package."""
    folder, rng = tmp_path_factory.mktemp("stores"), np.random.default_rng(0)
    n, ids = int(COUNTS.sum()), [f"s{number}" for number in range(len(COUNTS))]
    latent = rng.normal(size=(n, 10))
    ptr = torch.from_numpy(np.concatenate([[0], np.cumsum(COUNTS)]))
    records = [
        SystemRecord(id, int(count), id, "", f"{int(id[1:]):08x}") for id, count in zip(ids, COUNTS, strict=True)
    ]
    for name, width in (("first", 12), ("second", 17)):
        values = torch.from_numpy(np.tanh(latent @ rng.normal(size=(10, width)))).float()
        Features(values, ptr, ids, torch.ones(n, dtype=torch.int64), {"name": name}, records).save(folder / name)
    return [str(folder / "first"), str(folder / "second")]


def config(stores: list[str], **options: Any) -> CompareConfig:
    return CompareConfig.of(models=tuple(stores), order=2, batch_atoms=16, device="cpu", **options)


def numbers(comparison: latentcmp.Comparison) -> dict[str, Any]:
    """Everything but the times."""
    return {key: value for key, value in comparison.to_dict().items() if key != "timing"}


def command(*arguments: str, cwd: Path, launcher: tuple[str, ...] = ("-m",), **environment: str) -> Any:
    line = [sys.executable, *launcher, "latentcmp", *arguments]
    return subprocess.run(line, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=240)


FEW_ROWS = {"local_train_rows": 300, "local_test_rows": 100}
PAPER = {"preset": "chorna2025"}


@pytest.mark.parametrize(
    ("count", "options"),
    [(1, {}), (2, {}), (60, {}), (5, FEW_ROWS), (5, PAPER), (2, PAPER | FEW_ROWS)],
)
def test_shards_in_any_number_and_order_have_the_bits_of_one_process(
    stores: list[str], tmp_path: Path, count: int, options: dict[str, Any]
) -> None:
    whole = run(config(stores, **options))
    assert whole.manifest["n_blocks"] > 20
    assert ("folds" in whole.manifest) == ("preset" not in options)
    for number in range(count, 0, -1):
        written = run_shard(config(stores, **options), None, None, Shard(number, count), tmp_path)
        assert written == tmp_path / f"shard-{number:04d}-of-{count:04d}.safetensors"
    assert numbers(finish(merge_shards([tmp_path]), Timing())) == json.loads(json.dumps(numbers(whole)))


def test_threads_do_not_change_a_bit(stores: list[str]) -> None:
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(numbers(run(config(stores))))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_a_shard_that_is_there_is_not_made_again(stores: list[str], tmp_path: Path) -> None:
    shard = Shard(2, 3)
    path = run_shard(config(stores), None, None, shard, tmp_path)
    assert path is not None
    content = path.read_bytes()
    assert run_shard(config(stores), None, None, shard, tmp_path) is None
    path.write_bytes(content[: len(content) // 2])  # as after a full disk
    assert run_shard(config(stores), None, None, shard, tmp_path) == path
    for name, tensor in load_file(path).items():
        assert torch.equal(tensor, load(content)[name])
    other = run_shard(config(stores, preset="chorna2025"), None, None, shard, tmp_path / "other")
    assert other is not None
    os.replace(other, path)
    with pytest.raises(InputError, match=r"than this one: split is .* stratified by subset.*not .*5 folds by group"):
        run_shard(config(stores), None, None, shard, tmp_path)


def test_what_does_not_go_together_is_refused(stores: list[str], tmp_path: Path) -> None:
    for number in (1, 2, 3):
        run_shard(config(stores), None, None, Shard(number, 3), tmp_path / "all")
    (tmp_path / "twice").mkdir()
    copy = Shard(2, 3).path(tmp_path / "twice")
    copy.write_bytes(Shard(2, 3).path(tmp_path / "all").read_bytes())
    with pytest.raises(InputError, match="shard 2 of 3 is present twice"):
        merge_shards([tmp_path / "all", tmp_path / "twice"])
    with pytest.raises(InputError, match=r"shards 1, 3 are missing in .*twice; make them with compare --shard"):
        merge_shards([tmp_path / "twice"])
    with pytest.raises(InputError, match="there is no shard in"):
        merge_shards([tmp_path])
    run_shard(config(stores, seed=1), None, None, Shard(1, 3), tmp_path / "twice")
    with pytest.raises(InputError, match=r"another comparison than .*: split is .*, seed 0', not .*, seed 1'"):
        merge_shards([tmp_path / "twice"])
    run_shard(config(stores[:1]), None, None, Shard(1, 3), tmp_path / "fewer")
    with pytest.raises(InputError, match=r"config\.models is \[[^,]*first'\], not \[[^,]*first', [^,]*second'\]"):
        merge_shards([tmp_path / "all", tmp_path / "fewer"])
    run_shard(config(stores, measures=("gfre", "gfrd")), None, None, Shard(1, 3), tmp_path / "measures")
    with pytest.raises(InputError, match=r"measures is \['gfre', 'gfrd'\], not \['gfre', 'lfre'\]"):
        merge_shards([tmp_path / "all", tmp_path / "measures"])
    run_shard(config(stores), None, None, Shard(1, 2), tmp_path / "mixed")
    copy.rename(Shard(2, 3).path(tmp_path / "mixed"))
    with pytest.raises(InputError, match="shards is 3, not 2"):
        merge_shards([tmp_path / "mixed"])


def test_part_of_the_shards_is_a_comparison_of_their_structures(stores: list[str], tmp_path: Path) -> None:
    for number in (1, 3):
        run_shard(config(stores), None, None, Shard(number, 3), tmp_path)
    found = finish(merge_shards([tmp_path], partial=True), Timing())
    whole = run(config(stores))
    assert found.atoms.n_train + found.atoms.n_test < whole.atoms.n_train + whole.atoms.n_test
    assert found.manifest["missing_shards"] == [2]
    assert np.isfinite(found.gfre.values.numpy()).all()


@pytest.mark.parametrize("text", ["3", "0/4", "5/4", "a/b", "1/0", "-1/3", "1/2/3"])
def test_a_shard_that_is_none_is_explained(text: str) -> None:
    with pytest.raises(InputError, match="a shard is given as NUMBER/COUNT"):
        Shard.parse(text)


@pytest.mark.slow
def test_the_command_line_makes_and_merges_shards(stores: list[str], tmp_path: Path) -> None:
    for shard in ("2/2", "1/2"):
        made = command("compare", *stores, "--order", "2", "--shard", shard, "-o", "shards", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        assert "latentcmp merge shards" in made.stdout.replace("\n", " ")
    again = command("compare", *stores, "--order", "2", "--shard", "1/2", "-o", "shards", cwd=tmp_path)
    assert "is complete: nothing to do" in again.stdout.replace("\n", " ")
    merged = command("merge", "shards", "-o", "results", cwd=tmp_path)
    assert merged.returncode == 0, merged.stderr
    alone = command("compare", *stores, "--order", "2", "-o", "alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("results", "alone")]
    assert results[0]["atoms"] == results[1]["atoms"]
    assert results[0]["structures"] == results[1]["structures"]


def torchrun(world: int) -> tuple[str, ...]:
    return ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world), "-m")


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_have_the_bits_of_one_process(stores: list[str], tmp_path: Path, world: int) -> None:
    done = command(
        "compare", *stores, "--order", "2", "-o", "ranks", "--batch-atoms", "16", cwd=tmp_path, launcher=torchrun(world)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Wrote") == 1
    found = json.loads((tmp_path / "ranks/results.json").read_text())
    expected = json.loads(json.dumps(numbers(run(config(stores)))))
    assert all(found[key] == expected[key] for key in ("models", "atoms", "structures", "orders"))


@pytest.mark.slow
def test_an_error_on_a_rank_ends_the_job_by_name(stores: list[str], tmp_path: Path) -> None:
    broken = open_features(stores[1]).to_features()
    last = max(range(len(COUNTS)), key=lambda number: broken.records[number].id)  # the last rank has it
    broken.values[broken.ptr[last]] = torch.nan
    index = json.loads((Path(stores[1]) / "index.json").read_text())
    assert index["systems"]["id"][last] == f"s{last}"
    broken.save(tmp_path / "broken")
    start = time.monotonic()
    done = command("compare", stores[0], str(tmp_path / "broken"), "-o", "out", cwd=tmp_path, launcher=torchrun(2))
    assert time.monotonic() - start < 200
    assert done.returncode != 0
    assert "Error on rank 1:" in done.stderr
    assert f"structure 's{last}'" in done.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_job(stores: list[str], tmp_path: Path) -> None:
    killer = tmp_path / "killed.py"
    killer.write_text(
        "import os, signal\n"
        "from latentcmp.comparison import sources\n"
        "rows = sources.StoreSource.rows\n"
        "def dies(self, *arguments):\n"
        "    if os.environ['RANK'] == '1':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return rows(self, *arguments)\n"
        "sources.StoreSource.rows = dies\n"
        "from latentcmp.cli import main\n"
        "main()\n"
    )
    line = [sys.executable, *torchrun(2)[:-1], str(killer), "compare", *stores, "-o", "out"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert f"exitcode  : -{int(signal.SIGKILL)}" in done.stderr
    assert "rank      : 1" in done.stderr
    assert not (tmp_path / "out").exists()
