"""Joins of stored features: what is kept, what is left out, what is refused."""

from dataclasses import replace

import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.features.data import Features
from latentcmp.features.join import join
from latentcmp.features.stored import FeaturesInMemory
from latentcmp.systems.system import offsets

from .stored_cases import IDS, features


def part(given: Features, keep: list[int], **changes: str) -> Features:
    """Some of the systems, with other groups, subsets or digests."""
    rows = [row for i in keep for row in range(int(given.ptr[i]), int(given.ptr[i + 1]))]
    records = [replace(given.systems[i], **changes) for i in keep]
    ptr = torch.from_numpy(offsets(records))
    return Features(given.values[rows], ptr, [IDS[i] for i in keep], given.numbers[rows], {}, records)


def test_a_join_orders_by_id_and_takes_the_first_metadata_stated() -> None:
    bare = FeaturesInMemory("bare", part(features(), [4, 2, 0, 1], group="", subset="", digest=""))
    full = FeaturesInMemory("full", part(features(), [1, 4, 5, 0, 2]))
    joined = join([bare, full])
    assert joined.systems == [features().systems[i] for i in (0, 2, 4, 1)]
    assert [(skip.id, skip.reason) for skip in joined.skipped] == [("f", "is not in bare")]
    assert joined.single_atoms == [IDS[1]]
    assert joined.differing == []
    alone = join([bare, bare])
    assert [system.group for system in alone.systems] == sorted(IDS[i] for i in (4, 2, 0, 1))


def test_geometries_that_differ_are_listed() -> None:
    one = FeaturesInMemory("one", features())
    other = FeaturesInMemory("other", part(features(), [0, 1, 2], digest="0" * 32))
    assert join([one, other]).differing == [IDS[1], IDS[2]]


def test_other_atoms_under_one_id_are_an_error() -> None:
    one, changed = FeaturesInMemory("one", features()), features()
    changed.numbers[5] += 1
    message = (
        rf"atom 1 of structure 'b/c:0' has Z = {int(one.numbers[5])} in one and {int(one.numbers[5]) + 1} in other"
    )
    with pytest.raises(InputError, match=message):
        join([one, FeaturesInMemory("other", changed)])
    longer = Features(torch.ones(4, 2), torch.tensor([0, 4]), ["a"], torch.ones(4, dtype=torch.int64))
    with pytest.raises(InputError, match="structure 'a' has 3 atoms in one and 4 in longer"):
        join([one, FeaturesInMemory("longer", longer)])
    stranger = Features(torch.ones(4, 2), torch.tensor([0, 4]), ["z"], torch.ones(4, dtype=torch.int64))
    with pytest.raises(InputError, match="no structure is in all of one, stranger"):
        join([one, FeaturesInMemory("stranger", stranger)])
    with pytest.raises(InputError, match="no features were given"):
        join([])
