"""Blocks, and the tree that merges them: the same bits whoever computed what, in whatever order."""

import itertools

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.models.batching import cut_blocks
from latentcmp.statistics.accumulator import RowAccumulator, RowLabels, Sampled, SampledRows, SampleSizes
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import JointMoments
from latentcmp.statistics.merge_tree import MergeTree
from latentcmp.statistics.row_keys import row_keys
from latentcmp.systems.folds import parts_of

WIDTHS = {"a": 6, "b": 9}
SAMPLES: dict[int | None, tuple[Sampled, ...]] = {None: ("train", "test"), 6: ("all",)}


class Sum:
    """A leaf whose merges are recorded as brackets."""

    def __init__(self, text: str) -> None:
        self.text = text

    def merge(self, other: "Sum") -> None:
        self.text = f"({self.text}{other.text})"


def matrices(n: int = 400) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(3)
    latent = rng.normal(size=(n, 8))
    return {
        name: torch.from_numpy(np.tanh(latent @ rng.normal(size=(8, width)))).float() for name, width in WIDTHS.items()
    }


def empty(n_blocks: int, sizes: SampleSizes, n_parts: int | None) -> RowAccumulator:
    return RowAccumulator(WIDTHS, n_blocks, sizes, "gram" if n_parts else "qr", n_parts)


def accumulated(
    features: dict[str, torch.Tensor], blocks: list[int], n_blocks: int, sizes: SampleSizes, n_parts: int | None = None
) -> RowAccumulator:
    """The rows of some blocks, in the order given: of one split, or in `n_parts` blocks of folds."""
    n = len(features["a"])
    edges = np.linspace(0, n, n_blocks + 1).astype(int)
    owner, keys = np.arange(n) // 10, row_keys(["rows"], [n])
    part = owner % n_parts if n_parts else parts_of(np.arange(n) % 5 == 0)
    found = empty(n_blocks, sizes, n_parts)
    for block in blocks:
        rows = slice(edges[block], edges[block + 1])
        element = np.arange(n)[rows] % 4 + 1
        labels = RowLabels(part[rows], keys[rows], np.arange(n)[rows], owner[rows], owner[rows] // 2, element)
        found.update(block, {name: values[rows] for name, values in features.items()}, labels)
    return found


def assert_same(ours: JointMoments, theirs: JointMoments) -> None:
    assert all(torch.equal(a, b) for a, b in zip(ours.tensors(), theirs.tensors(), strict=True))


def assert_same_sample(found: SampledRows, expected: SampledRows) -> None:
    assert found.complete == expected.complete
    np.testing.assert_array_equal(found.keys, expected.keys)
    assert all(torch.equal(found.values[name], expected.values[name]) for name in WIDTHS)
    for label, values in expected.labels.items():
        np.testing.assert_array_equal(found.labels[label], values)


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 5, 8, 13])
def test_the_tree_adds_in_one_order_whatever_comes_first(n_blocks: int) -> None:
    found = set()
    orders = itertools.islice(itertools.permutations(range(n_blocks)), 0, 200, 7)
    for order in orders:
        tree: MergeTree[Sum] = MergeTree(n_blocks)
        for block in order:
            assert set(tree.missing()) >= {block}
            tree.add(block, Sum(f"[{block}]"))
        assert not tree.missing()
        found.add(tree.total().text)
    assert len(found) == 1
    leaves = found.pop().replace("(", "").replace(")", "")
    assert leaves == "".join(f"[{block}]" for block in range(n_blocks))


def test_trees_of_shards_are_the_tree_of_all() -> None:
    whole: MergeTree[Sum] = MergeTree(11)
    for block in range(11):
        whole.add(block, Sum(str(block)))
    for cuts in ([4], [1, 7], [3, 4, 9], list(range(1, 11))):
        parts = []
        for start, stop in itertools.pairwise([0, *cuts, 11]):
            tree: MergeTree[Sum] = MergeTree(11)
            for block in reversed(range(start, stop)):
                tree.add(block, Sum(str(block)))
            parts.append(tree)
        merged: MergeTree[Sum] = MergeTree(11)
        for part in parts[::-1]:
            merged.merge(part)
        assert merged.total().text == whole.total().text


def test_nothing_is_counted_twice() -> None:
    tree: MergeTree[Sum] = MergeTree(4)
    for block in (0, 1):
        tree.add(block, Sum(str(block)))
    with pytest.raises(InputError, match="blocks 1 and up are accumulated already"):
        tree.add(1, Sum("1"))
    with pytest.raises(InputError, match="block 4 is not one of the 4 blocks"):
        tree.add(4, Sum("4"))
    with pytest.raises(InputError, match="no block"):
        MergeTree(4).total()
    with pytest.raises(InputError, match="of 4 and of 5 blocks"):
        tree.merge(MergeTree(5))


def test_blocks_hold_whole_structures_and_all_of_them() -> None:
    counts = np.random.default_rng(0).integers(1, 40, 300).tolist()
    blocks = cut_blocks(counts, 100)
    assert [start for start, _ in blocks] == [0, *(stop for _, stop in blocks[:-1])]
    assert blocks[-1][1] == 300
    sizes = [sum(counts[start:stop]) for start, stop in blocks]
    assert min(sizes[:-1]) >= 100
    assert all(size - counts[stop - 1] < 100 for size, (_, stop) in zip(sizes, blocks, strict=True))
    assert cut_blocks([], 100) == []


@pytest.mark.parametrize("n_parts", [None, 6])
@pytest.mark.parametrize("n", [60, 2000])
def test_statistics_and_samples_have_the_same_bits_in_any_order(n: int, n_parts: int | None) -> None:
    features, sizes = matrices(n), SampleSizes(40, 17)
    whole = accumulated(features, list(range(7)), 7, sizes, n_parts)
    first, second = (accumulated(features, blocks, 7, sizes, n_parts) for blocks in ([6, 2, 3], [5, 0, 1, 4]))
    second.merge(first)
    for part in SAMPLES[n_parts]:
        assert_same_sample(second.sampled(part), whole.sampled(part))
    assert_same(second.compute(), whole.compute())


@pytest.mark.parametrize("n_parts", [None, 6])
def test_accumulated_rows_go_through_tensors_and_back(n_parts: int | None) -> None:
    features, sizes = matrices(900), SampleSizes(40, 17)
    whole = accumulated(features, list(range(9)), 9, sizes, n_parts)
    found = empty(9, sizes, n_parts)
    for blocks in ([8, 7], [0, 1, 2, 3], [4, 5, 6]):
        shard = empty(9, sizes, n_parts)
        shard.load_tensors(accumulated(features, blocks, 9, sizes, n_parts).tensors())
        found.merge(shard)
    assert found.n_rows == whole.n_rows
    assert_same(found.compute(), whole.compute())
    for part in SAMPLES[n_parts]:
        assert_same_sample(found.sampled(part), whole.sampled(part))


def test_blocks_give_the_errors_of_one_update() -> None:
    features = matrices(1500)
    part = torch.from_numpy(parts_of(np.arange(1500) % 5 == 0).astype(np.int64))
    expected = JointStatistics(WIDTHS)
    expected.update(features, part)
    found = accumulated(features, list(range(12)), 12, SampleSizes()).tree.total().joint()
    torch.testing.assert_close(found.errors(), expected.errors(), rtol=1e-10, atol=1e-12)


def test_samples_keep_the_rows_they_say() -> None:
    features = matrices(500)
    found = accumulated(features, [2, 0, 1], 3, SampleSizes(1000, 20))
    train, test = found.sampled("train"), found.sampled("test")
    assert train.complete
    rows = np.flatnonzero(np.arange(500) % 5)
    assert torch.equal(train.values["a"], features["a"][torch.from_numpy(rows)])
    np.testing.assert_array_equal(train.labels["owner"], rows // 10)
    np.testing.assert_array_equal(train.labels["group"], rows // 20)
    np.testing.assert_array_equal(train.keys, row_keys(["rows"], [500])[rows])
    assert not test.complete
    assert len(test.keys) == 20


def test_the_sample_of_folds_is_that_of_the_smallest_keys() -> None:
    features = matrices(500)
    found = accumulated(features, [2, 0, 1], 3, SampleSizes(30, 20), 6).sampled("all")
    keys = row_keys(["rows"], [500])
    rows = sorted(sorted(range(500), key=lambda row: tuple(keys[row].tolist()))[:30])
    np.testing.assert_array_equal(found.labels["row"], rows)
    np.testing.assert_array_equal(found.labels["part"], np.array(rows) // 10 % 6)
    assert torch.equal(found.values["b"], features["b"][torch.tensor(rows)])
    assert not found.complete
    assert accumulated(features, [2, 0, 1], 3, SampleSizes(30, 500), 6).sampled("all").complete
