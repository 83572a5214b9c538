"""Names, packages and checkpoints: what is refused, and with which words. No model runs here."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from latentcmp.errors import InputError, MissingPackageError, UntrustedCheckpointError
from latentcmp.models import checkpoint, registry
from latentcmp.models.checkpoint import package_folder


def test_every_name_of_the_field_is_known() -> None:
    assert set(registry.cards()) == {
        "chgnet-0.3.0",
        "chgnet-0.2.0",
        "chgnet-r2scan",
        "sevennet-0",
        "sevennet-0-22may2024",
        "sevennet-mf-0",
        "sevennet-mf-0-r2scan",
        "sevennet-l3i5",
        "diep",
    }
    assert set(registry.DEFAULT_MODELS) <= set(registry.cards())


def test_specs_carry_layers_checkpoints_and_modalities() -> None:
    spec = registry.parse("sevennet-0@backbone")
    assert (spec.card.name, spec.layer, spec.checkpoint) == ("sevennet-0", "backbone", None)
    assert registry.parse("SevenNet-MF-0-PBE").card.options == {"modality": "PBE"}
    spec = registry.parse("sevennet:runs/best.pth#R2SCAN", "backbone")
    assert (spec.layer, spec.checkpoint) == ("backbone", Path("runs/best.pth"))
    assert spec.card.options == {"modality": "R2SCAN"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["sevenet-0"], "did you mean sevennet-0"),
        (["mace:model.pt"], "unknown model family 'mace'"),
        (["chgnet:"], "chgnet: needs the path"),
        (["diep", "diep@last"], "same layer of the same model"),
        ([], "no models were given"),
    ],
)
def test_bad_names_are_explained(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        registry.parse_all(names)


def test_a_missing_package_comes_with_its_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        return None

    monkeypatch.setattr(checkpoint, "find_spec", nothing)
    with pytest.raises(MissingPackageError, match="run: pip install sevenn"):
        registry.load("sevennet-0")


def test_a_missing_checkpoint_of_ones_own_is_named(all_models: None) -> None:
    with pytest.raises(InputError, match=r"checkpoint nowhere\.pth does not exist"):
        registry.load("chgnet:nowhere.pth")


def test_a_changed_checkpoint_in_a_package_is_refused_unless_trusted(
    all_models: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = registry.cards()["chgnet-0.3.0"]
    changed = {**registry.cards(), card.name: replace(card, sha256="0" * 64)}
    monkeypatch.setattr(registry, "cards", lambda: changed)
    with pytest.raises(UntrustedCheckpointError, match="expected 0000"):
        registry.load(card.name)
    assert registry.load(card.name, trust=True).card.name == card.name


class Payload:
    """What a hostile pickle may hold: unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("family", ["chgnet", "sevennet", "diep"])
def test_code_in_a_checkpoint_does_not_run(all_models: None, tmp_path: Path, family: str) -> None:
    mark = tmp_path / "ran"
    torch.save({"model": Payload(mark)}, tmp_path / "state.pt")
    with pytest.raises((InputError, UntrustedCheckpointError)):
        registry.load(f"{family}:{tmp_path / 'state.pt'}")
    assert not mark.exists()


@pytest.mark.parametrize(
    "content", [{}, {"model": 5}, {"model": {"state_dict": {}}}, [1], {"model": {"model_args": {}, "state_dict": 7}}]
)
def test_a_damaged_checkpoint_is_one_clear_error(all_models: None, tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a@b.pth")
    with pytest.raises(InputError, match=r"a@b\.pth (is not a CHGNet|cannot be loaded as a chgnet) checkpoint"):
        registry.load(f"chgnet:{tmp_path / 'a@b.pth'}")


@pytest.mark.parametrize("family", ["sevennet", "diep"])
def test_families_that_need_pickle_ask_for_trust(all_models: None, tmp_path: Path, family: str) -> None:
    (tmp_path / "state.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UntrustedCheckpointError, match="--trust"):
        registry.load(f"{family}:{tmp_path / 'state.pt'}")
    with pytest.raises(InputError, match="cannot be loaded as a"):
        registry.load(f"{family}:{tmp_path / 'state.pt'}", trust=True)


@pytest.mark.parametrize("content", [b"", b"cut", b"PK\x03\x04 and no more"])
def test_a_file_that_is_none_is_refused_without_advice_to_open_it_unsafely(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "epoch3.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"epoch3\.pth cannot be loaded: it is damaged") as refused:
        checkpoint.load_weights(tmp_path / "epoch3.pth")
    assert "\x1b" not in str(refused.value)
    assert "trust the source" not in str(refused.value)


def test_a_bundled_checkpoint_copied_elsewhere_is_the_same_model(all_models: None, tmp_path: Path) -> None:
    for name in ("chgnet-0.2.0", "sevennet-0"):
        card = registry.cards()[name]
        shutil.copy(package_folder(card) / card.checkpoint, tmp_path / "copy.pth")
        trust = card.family != "chgnet"
        own, bundled = registry.load(f"{card.family}:{tmp_path / 'copy.pth'}", trust=trust), registry.load(name)
        assert own.card.points == bundled.card.points
        for key, value in bundled.module.state_dict().items():
            assert torch.equal(own.module.state_dict()[key], value)
