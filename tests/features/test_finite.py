"""Features that are not finite are named, at once or, where that would wait for a device, a little later."""

import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.features.finite import FiniteCheck, check_finite
from latentcmp.systems.system import SystemRecord

SYSTEMS = [SystemRecord(name, n_atoms) for name, n_atoms in (("a", 2), ("empty", 0), ("b", 3), ("c", 1))]


def values(row: int | None = None, value: float = float("nan")) -> torch.Tensor:
    made = torch.ones(6, 4)
    if row is not None:
        made[row, 1] = value
    return made


@pytest.mark.parametrize(
    ("row", "atom", "structure"), [(0, 0, "a"), (1, 1, "a"), (2, 0, "b"), (4, 2, "b"), (5, 0, "c")]
)
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_the_first_row_is_named(row: int, atom: int, structure: str, value: float) -> None:
    wrong = values(row, value)
    wrong[5, 3] = float("inf")
    count = int((~wrong.isfinite()).any(1).sum())
    with pytest.raises(
        InputError, match=f"model gives .* for {count} of 6 atoms, first atom {atom} of structure '{structure}'"
    ):
        check_finite("model", wrong, SYSTEMS)


def test_finite_values_and_no_values_pass() -> None:
    check_finite("model", values(), SYSTEMS)
    check_finite("model", values()[:0], [])


def test_blocks_judged_together_raise_for_the_first_of_them() -> None:
    check = FiniteCheck(every=3)
    check.add("one", values(), SYSTEMS)
    check.add("two", values(3), SYSTEMS)
    with pytest.raises(InputError, match=r"two gives .* first atom 1 of structure 'b'"):
        check.add("three", values(0), SYSTEMS)
    check.add("four", values(5), SYSTEMS)
    with pytest.raises(InputError, match="four"):
        check.finish()
    check.finish()


def test_looking_reads_no_value_back_from_a_device() -> None:
    check = FiniteCheck()
    for _ in range(63):
        check.add("model", torch.empty(6, 4, device="meta"), SYSTEMS)
    with pytest.raises(NotImplementedError):
        check.finish()  # which does read
