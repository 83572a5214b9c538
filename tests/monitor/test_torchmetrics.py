"""GFRE as a metric of torchmetrics, against NumPy."""

import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.systems.group_folds import fold_of_labels

pytest.importorskip("torchmetrics")
from torchmetrics import MetricCollection

from latentcmp.monitor.torchmetrics import GlobalReconstructionError

from .fold_oracle import global_error


def rows(n: int = 600, mean: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(n, 6, generator=generator) + mean
    target = (source @ torch.randn(6, 4, generator=generator)).tanh() + 0.1 * torch.randn(n, 4, generator=generator)
    return source, target, [row // 4 for row in range(n)]


@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_batches_give_the_error_of_all_rows(mean: float) -> None:
    source, target, groups = rows(mean=mean)
    pivot = torch.cat([source[:100], target[:100]], 1).mean(0) if mean else None
    metric = GlobalReconstructionError(6, 4, pivot)
    for start in range(0, 600, 150):
        part = slice(start, start + 150)
        metric.update(source[part], target[part], groups[part])
    assert float(metric.compute()) == pytest.approx(global_error(source, target, fold_of_labels(groups)), rel=1e-8)


def test_a_linear_image_of_the_source_is_at_no_distance() -> None:
    source, _, groups = rows()
    mixture = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    metric = GlobalReconstructionError(6, 4)
    metric.update(source.double(), source.double() @ mixture, groups)
    assert 0 <= float(metric.compute()) < 1e-5


def test_it_behaves_as_a_metric() -> None:
    source, target, groups = rows()
    metric = MetricCollection({"gfre": GlobalReconstructionError(6, 4)})
    metric.update(source, target, groups)
    first = metric.compute()["gfre"]
    twin = metric.clone()
    metric.reset()
    metric.update(source.flip(1) * 0 + torch.randn(600, 6), target, groups)
    assert metric.compute()["gfre"] > 0.9
    assert twin.compute()["gfre"] == first
    single = GlobalReconstructionError(6, 4)
    assert single(source, target, groups) == first  # the value of a batch by itself
    single(source[:300].flip(0), target[:300], groups[:300])
    single.reset()
    single(source[:400], target[:400], groups[:400])
    single(source[400:], target[400:], groups[400:])
    assert float(single.compute()) == pytest.approx(float(first), rel=1e-9)  # of all batches together


def test_what_does_not_fit_is_refused() -> None:
    source, target, groups = rows()
    metric = GlobalReconstructionError(6, 4)
    with pytest.raises(InputError, match=r"every fold must have rows, got \[.*\] rows in the 5 folds"):
        metric.update(source[:12], target[:12], groups[:12])
        metric.compute()
    with pytest.raises(InputError, match="must be"):
        metric.update(source, target, groups[:5])
    with pytest.raises(InputError, match=r"pivot must be \[10\]"):
        GlobalReconstructionError(6, 4, torch.zeros(3))
    with pytest.raises(InputError, match="constant over the"):
        metric.reset()
        metric.update(source, torch.ones_like(target), groups)
        metric.compute()
