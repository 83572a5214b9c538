"""The callback under the real trainer: logged, saved and resumed with its checkpoints, and of no effect on them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("lightning")
import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger

from latentcmp.monitor.lightning import DriftCallback


class Regression(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x, y = batch
        return (self(x) - y).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)


def fit(folder: Path, epochs: int, watch: bool = True, resume: Path | None = None) -> tuple[pl.Trainer, Any]:
    pl.seed_everything(0, verbose=False)
    x = torch.randn(64, 4)
    loader = DataLoader(TensorDataset(x, x[:, :1].sin()), batch_size=8, shuffle=True)
    probe = torch.randn(300, 4, generator=torch.Generator().manual_seed(1))
    callback = DriftCallback("net.2", probe, every=4, local=True)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[callback] if watch else [],
        logger=CSVLogger(folder),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Regression(), loader, ckpt_path=resume)
    return trainer, callback


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.Trainer, Any]:
    return fit(tmp_path_factory.mktemp("whole"), 3)


def test_the_weights_are_those_of_a_training_without_it(whole: tuple[pl.Trainer, Any], tmp_path: Path) -> None:
    bare, _ = fit(tmp_path, 3, watch=False)
    for expected, found in zip(
        bare.lightning_module.state_dict().values(), whole[0].lightning_module.state_dict().values(), strict=True
    ):
        assert torch.equal(expected, found)


def test_every_probe_is_logged_at_its_step(whole: tuple[pl.Trainer, Any]) -> None:
    pandas = pytest.importorskip("pandas")
    trainer, callback = whole
    records = callback.monitor.compute()
    assert [record["step"] for record in records] == [0, 4, 8, 12, 16, 20, 24]
    table = pandas.read_csv(Path(trainer.loggers[0].log_dir) / "metrics.csv").set_index("step")
    logged = table["drift/net.2/gfre_to_reference"].dropna()
    expected = [record["layers"]["net.2"]["gfre_to_reference"] for record in records]
    assert logged.index.tolist() == [record["step"] for record in records]
    assert logged.tolist() == pytest.approx(expected, rel=1e-6)
    assert expected[-1] > expected[1] > 0


def test_a_resumed_training_has_the_records_of_one_that_never_stopped(
    whole: tuple[pl.Trainer, Any], tmp_path: Path
) -> None:
    first, _ = fit(tmp_path / "first", 2)
    first.save_checkpoint(tmp_path / "stopped.ckpt")
    _, resumed = fit(tmp_path / "second", 3, resume=tmp_path / "stopped.ckpt")
    expected, found = whole[1].monitor.compute(), resumed.monitor.compute()
    assert [record["step"] for record in found] == [record["step"] for record in expected]
    assert found[:5] == expected[:5]
    assert found[5]["layers"]["net.2"]["gfre_to_reference"] > 0.01  # from the first reference, not a new one
