"""Records in a CSV file and in TensorBoard, read back with other people's readers."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from latentcmp import DriftMonitor
from latentcmp.errors import InputError
from latentcmp.monitor.writers import CsvWriter, TensorBoardWriter, scalars


@pytest.fixture(scope="module")
def records() -> list[dict]:
    """Two good probes, then one after the model has diverged."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    monitor = DriftMonitor(
        model, ["0", "1"], probe=torch.randn(300, 4), numbers=torch.randint(1, 3, (300,)), every=1, local=True
    )
    for step, shift in enumerate((0.0, 0.3, math.nan)):
        with torch.no_grad():
            model[0].bias += shift
        monitor.step(10 * step)
    return monitor.compute()


def test_the_csv_file_holds_every_number(records: list[dict], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    CsvWriter(tmp_path / "drift.csv").write(records)
    table = pandas.read_csv(
        tmp_path / "drift.csv", keep_default_na=False, na_values=["nan", ""], float_precision="round_trip"
    )
    whole = table[table.label.isna() & (table.layer == 1)].set_index("step")
    for record in records:
        for name, value in record["layers"]["1"].items():
            if name != "elements":
                written = whole.loc[record["step"], name]
                if value is None or value != value:
                    assert pandas.isna(written)
                else:
                    assert written == value
    helium = table[(table.label == "He") & (table.layer == 1) & (table.step == 10)].gfre_to_reference
    assert helium.item() == records[1]["layers"]["1"]["elements"]["He"]["gfre_to_reference"]
    assert "NaN or an infinity" in whole.loc[20, "reason"]


def test_an_earlier_file_stays_when_writing_fails(records: list[dict], tmp_path: Path) -> None:
    path = tmp_path / "drift.csv"
    CsvWriter(path).write(records[:1])
    before = path.read_text()
    with pytest.raises(RuntimeError, match="stop"):
        CsvWriter(path).write(Breaking(records))
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["drift.csv"]
    with pytest.raises(InputError, match="cannot be written"):
        CsvWriter(tmp_path / "no" / "drift.csv").write(records)


class Breaking(list):
    """Records whose reading fails half way."""

    def __iter__(self):
        yield self[0]
        raise RuntimeError("stop")


def test_tensorboard_reads_each_scalar_once(records: list[dict], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    writer = TensorBoardWriter(tmp_path)
    writer.write(records[:1])
    writer.write(records)
    events = EventAccumulator(str(tmp_path)).Reload()
    for name in scalars(records[0]):
        found = [(event.step, event.value) for event in events.Scalars(f"drift/{name}")]
        expected = [(record["step"], scalars(record)[name]) for record in records if name in scalars(record)]
        assert [step for step, _ in found] == [step for step, _ in expected]
        for (_, value), (_, wanted) in zip(found, expected, strict=True):
            assert value == pytest.approx(wanted, rel=1e-6, nan_ok=True)
