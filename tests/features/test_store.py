"""Shards and their index: what was written is read, in any order; damage and other features are refused."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from safetensors.torch import load_file, save_file

import latentcmp
from latentcmp.errors import InputError
from latentcmp.features import data
from latentcmp.features.extract_to import extract_to
from latentcmp.features.open import open_features
from latentcmp.features.store import FeatureStore
from latentcmp.features.writer import FeatureWriter
from latentcmp.systems.read import read_systems
from latentcmp.systems.system import in_canonical_order

from .stored_cases import COUNTS, IDS, features


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    """Six systems in five shards."""
    monkeypatch.setattr(data, "SHARD_ATOMS", 5)
    features().save(tmp_path / "x")
    return FeatureStore.open(tmp_path / "x")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_saved_is_loaded(tmp_path: Path, dtype: torch.dtype) -> None:
    given = features(dtype=dtype)
    given.save(tmp_path / "x")
    found = open_features(tmp_path / "x").to_features()
    assert found.values.dtype == dtype
    assert torch.equal(found.values, given.values)
    assert torch.equal(found.ptr, given.ptr)
    assert torch.equal(found.numbers, given.numbers)
    assert found.systems == given.systems
    assert found.ids == given.ids
    assert found.manifest == given.manifest


def test_a_store_knows_itself(store: FeatureStore) -> None:
    assert (store.label, store.width, len(store)) == ("x", 7, sum(COUNTS))
    assert (store.ids, store.counts) == (IDS, COUNTS)
    assert torch.equal(store.numbers, features().numbers)
    assert torch.equal(store.numbers_of("b/c:0"), features().numbers[4:8])
    assert store.manifest["layer"] == "last"


def test_shards_hold_whole_systems_that_any_reader_of_safetensors_sees(store: FeatureStore) -> None:
    names = sorted(path.name for path in store.directory.glob("*.safetensors"))
    assert names == [f"features-0000{number}-of-00005.safetensors" for number in (1, 2, 3, 4, 5)]
    shards = [load_file(store.directory / name) for name in names]
    assert torch.equal(torch.cat([shard["values"] for shard in shards]), features().values)
    assert torch.equal(torch.cat([shard["number"] for shard in shards]), features().numbers.int())
    systems = torch.cat([shard["system"] for shard in shards]).tolist()
    assert systems == np.repeat(np.arange(6), COUNTS).tolist()
    assert torch.cat([shard["atom"] for shard in shards]).tolist() == [i for count in COUNTS for i in range(count)]
    assert all(not {*a["system"].tolist()} & {*b["system"].tolist()} for a, b in pairwise(shards))


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 3, 0, 4, 5], [1], []])
def test_rows_come_in_the_order_asked_for(store: FeatureStore, order: list[int]) -> None:
    given = features()
    expected = [given.values[given.ptr[i] : given.ptr[i + 1]] for i in order]
    found = store.rows([IDS[i] for i in order])
    assert torch.equal(found, torch.cat([given.values[:0], *expected]))


def test_blocks_are_whole_systems_in_stored_order(store: FeatureStore) -> None:
    for size in (1, 5, 100):
        blocks = list(store.blocks(size))
        assert [id for ids, _ in blocks for id in ids] == IDS
        assert torch.equal(torch.cat([rows for _, rows in blocks]), features().values)
        assert all(len(rows) <= size or len(ids) == 1 for ids, rows in blocks)


def test_any_damage_is_refused(store: FeatureStore) -> None:
    rng = np.random.default_rng(0)
    for path in [store.directory / "index.json", *store.directory.glob("*.safetensors")]:
        whole = path.read_bytes()
        for trial in range(60):
            damaged = bytearray(whole)
            if trial % 3 == 0:
                damaged = damaged[: rng.integers(len(damaged))]
            else:
                damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
            path.write_bytes(bytes(damaged))
            with pytest.raises(InputError, match=path.name):
                FeatureStore.open(store.directory).to_features()
        path.unlink()
        with pytest.raises(InputError, match=path.name):
            open_features(store.directory).to_features()
        path.write_bytes(whole)
    assert torch.equal(open_features(store.directory).to_features().values, features().values)


def test_files_that_do_not_belong_are_refused(store: FeatureStore, tmp_path: Path) -> None:
    features(seed=1).save(tmp_path / "other")
    name = "features-00002-of-00005.safetensors"
    shutil.copy(tmp_path / "other" / name, store.directory / name)
    with pytest.raises(InputError, match=f"{name} does not belong to the index.json"):
        FeatureStore.open(store.directory).to_features()
    save_file({"values": torch.zeros(4, 7)}, store.directory / name)
    with pytest.raises(InputError, match=f"{name} is of format None"):
        FeatureStore.open(store.directory).to_features()
    index = json.loads((store.directory / "index.json").read_text())
    (store.directory / "index.json").write_text(json.dumps({**index, "format": "latentcmp-features-9"}))
    with pytest.raises(InputError, match="'latentcmp-features-9', expected 'latentcmp-features-1'"):
        FeatureStore.open(store.directory)


def test_values_that_are_not_finite_name_structure_and_atom(tmp_path: Path) -> None:
    given = features()
    given.values[5] = torch.nan
    given.save(tmp_path / "x")
    with pytest.raises(InputError, match=r"x gives a NaN.* first atom 1 of structure 'b/c:0'"):
        open_features(tmp_path / "x").rows(["e", "b/c:0"])


def test_features_are_replaced_only_when_asked(tmp_path: Path) -> None:
    features().save(tmp_path / "x")
    (tmp_path / "x" / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="contains features already"):
        features(seed=1).save(tmp_path / "x")
    features(seed=1).save(tmp_path / "x", overwrite=True)
    assert torch.equal(open_features(tmp_path / "x").to_features().values, features(seed=1).values)
    assert (tmp_path / "x" / "mine.txt").read_text() == "kept"


def test_an_unfinished_directory_does_not_read_as_features(tmp_path: Path) -> None:
    values = features().values
    FeatureWriter(tmp_path / "x", {"model": "a"}, 2).write(0, values, [len(values)], torch.ones(len(values)), {}, 0)
    with pytest.raises(InputError, match="did not end; run it again"):
        open_features(tmp_path / "x")
    with pytest.raises(InputError, match=r"neither index\.json nor values\.npy"):
        open_features(tmp_path)
    with pytest.raises(InputError, match="is no directory of features"):
        open_features(tmp_path / "nowhere")


def test_an_interrupted_extraction_goes_on_where_it_stopped(
    all_models: None, structures: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, seen = structures[:18], []

    def stop(label: str, done: int, total: int) -> None:
        seen.append(done)
        if done > total / 2:
            raise KeyboardInterrupt

    options = {"batch_atoms": 8, "shard_atoms": 24}
    with pytest.raises(KeyboardInterrupt):
        extract_to(tmp_path / "x", "chgnet-0.3.0", few, progress=stop, **options)
    whole = sorted((tmp_path / "x").iterdir())
    assert [path.suffix for path in whole] == [".safetensors"] * len(whole)
    before = {path: path.stat().st_mtime_ns for path in whole}
    damaged = whole[0]
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.raises(InputError, match="layer 'last', not 'backbone'"):
        extract_to(tmp_path / "x", "chgnet-0.3.0", few, "backbone", **options)
    with pytest.raises(InputError, match="contains other features"):
        extract_to(tmp_path / "x", "chgnet-0.3.0", few[:-1], **options)
    seen.clear()
    found = extract_to(tmp_path / "x", "chgnet-0.3.0", few, progress=lambda *at: seen.append(at[1]), **options)
    assert {path for path in whole if path.stat().st_mtime_ns == before[path]} == set(whole[1:])
    expected = latentcmp.extract("chgnet-0.3.0", in_canonical_order(read_systems(few)), batch_atoms=8)
    assert torch.equal(found.to_features().values, expected.values)
    assert found.systems == expected.systems
    assert found.manifest == expected.manifest
    assert seen[-1] == len(expected)

    with monkeypatch.context() as patch:
        patch.delattr("latentcmp.features.extract_to.load")  # what is whole needs no model
        assert extract_to(tmp_path / "x", "chgnet-0.3.0", few, **options).index == found.index
    other = extract_to(tmp_path / "x", "chgnet-0.3.0", few, "backbone", overwrite=True, **options)
    assert other.manifest["layer"] == "backbone"
