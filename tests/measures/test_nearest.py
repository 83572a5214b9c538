"""How many test rows are searched at once."""

import pytest
import torch

from latentcmp.measures.nearest import rows_at_once

CUDA = torch.device("cuda", 0)


def test_rows_shrink_with_their_numbers_and_never_below_one() -> None:
    cpu = torch.device("cpu")
    assert rows_at_once(1, cpu) == 512
    assert 1 < rows_at_once(100_000, cpu) < 512
    assert rows_at_once(10**12, cpu) == 1


@pytest.mark.parametrize("free", [1 << 20, 1 << 28, 1 << 40])
def test_a_batch_takes_no_more_than_a_quarter_of_what_a_gpu_has_free(
    free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1 << 41))
    numbers = 1000
    assert 8 * numbers * rows_at_once(numbers, CUDA) <= max(free // 4, 8 * numbers)
    assert rows_at_once(numbers, CUDA) <= 4096
