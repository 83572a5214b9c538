"""Model families of other packages, registered as entry points."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from ase import Atoms
from typer.testing import CliRunner

import latentcmp
from latentcmp.cli import app
from latentcmp.errors import InputError
from latentcmp.models import discovery, registry

CACHED = (discovery.registrations, discovery.family_errors, discovery.model_errors, registry.cards)
FAMILY = '''
"""A network on atomic numbers and distances to the centre: rows follow the atoms, and nothing rotates."""

import torch
from latentcmp import HookPoint
from latentcmp.models import Adapter, ModelCard

CARDS = tuple(
    ModelCard(
        name=name, family={family!r}, package={package!r}, module={module!r}, checkpoint="weights.pt",
        sha256={sha256!r}, licence="MIT", trained_on="nothing", elements=frozenset(range(1, 119)),
        points=(HookPoint("last", "2", width=5), HookPoint("backbone", "0", width=8)),
    )
    for name in {names!r}
)


class ToyAdapter(Adapter):
    def graph(self, atoms):
        radii = torch.from_numpy(atoms.positions - atoms.positions.mean(0)).norm(dim=1)
        return torch.stack([torch.from_numpy(atoms.numbers) / 50, radii], 1).float()

    def energies(self, graphs):
        rows = self.module(torch.cat(graphs).to(self.device)).sum(1)
        return torch.stack([part.mean() for part in rows.split([len(graph) for graph in graphs])])


def load(card, path, device, trust):
    module = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 5))
    module.load_state_dict(torch.load(path, weights_only=True))
    return ToyAdapter(card, module, device)
'''


class Site:
    """A directory of installed packages; what is installed is found at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, package: str, family: str, names: list[str], code: str = FAMILY) -> Path:
        module = package.replace("-", "_")
        folder = self.path / module
        folder.mkdir()
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 5))
        torch.save(network.state_dict(), folder / "weights.pt")
        digest = sha256((folder / "weights.pt").read_bytes()).hexdigest()
        (folder / "__init__.py").touch()
        (folder / "family.py").write_text(
            code.format(family=family, package=package, module=module, names=names, sha256=digest)
        )
        metadata = self.path / f"{module}-1.5.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        (metadata / "entry_points.txt").write_text(f"[latentcmp.families]\n{family} = {module}.family\n")
        for function in CACHED:
            function.cache_clear()
        return folder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield Site(tmp_path / "site")
    monkeypatch.undo()
    for function in CACHED:
        function.cache_clear()


def toy_rows(atoms: Atoms, folder: Path) -> np.ndarray:
    """The rows of layer "last" in float64 NumPy."""
    weights = {key: value.double().numpy() for key, value in torch.load(folder / "weights.pt").items()}
    radii = np.linalg.norm(atoms.positions - atoms.positions.mean(0), axis=1)
    hidden = np.stack([atoms.numbers / 50, radii], 1) @ weights["0.weight"].T + weights["0.bias"]
    return np.tanh(hidden) @ weights["2.weight"].T + weights["2.bias"]


def test_a_family_of_another_package_is_extracted(site: Site, structures: list[Atoms]) -> None:
    folder = site.install("toy-one", "toy", ["toy-1"])
    features = latentcmp.extract("toy-1", structures[:20], device="cpu")
    expected = np.concatenate([toy_rows(atoms, folder) for atoms in structures[:20]])
    np.testing.assert_allclose(features.values.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert (features.manifest["package"], features.manifest["package_version"]) == ("toy-one", "1.5")
    own = latentcmp.extract(f"toy:{folder / 'weights.pt'}", structures[:20], device="cpu")
    assert torch.equal(own.values, features.values)


def test_a_family_of_another_package_is_compared(site: Site, structures: list[Atoms]) -> None:
    site.install("toy-two", "toy", ["toy-2"])
    comparison = latentcmp.compare(["toy-2", "toy-2@backbone"], structures, device="cpu")
    matrix = comparison.gfre.values
    assert list(comparison.gfre.names) == ["toy-2", "toy-2@backbone"]
    assert matrix.diagonal().max() < 1e-3
    assert 1e-3 < matrix[0, 1] < 1  # each reconstructs itself; the tanh between the two is not linear
    assert 1e-3 < matrix[1, 0] < 1


def test_a_broken_family_does_not_break_the_others(site: Site, structures: list[Atoms]) -> None:
    site.install("toy-three", "toy", ["toy-3"])
    site.install("broken-import", "brokenimport", [], "import no_such_module")
    site.install("broken-shape", "brokenshape", ["Toy 4"], FAMILY)
    site.install("broken-cards", "brokencards", [], "CARDS = ()\nload = print")
    assert len(latentcmp.extract("toy-3", structures[:2], device="cpu")) == sum(map(len, structures[:2]))
    assert set(registry.DEFAULT_MODELS) <= set(registry.cards())
    messages = {
        "brokenimport": "'brokenimport' of package broken-import cannot be used: ModuleNotFoundError: .*no_such_module",
        "brokenshape": "package broken-shape cannot be used: ValueError: the model name 'Toy 4' must be of lower-case",
        "brokencards": "package broken-cards cannot be used: TypeError: a family must have CARDS, at least one",
    }
    listed = CliRunner().invoke(app, ["models"]).output
    for family, message in messages.items():
        with pytest.raises(InputError, match=message):
            registry.load(f"{family}:weights.pt")
        assert f"the model family '{family}' of package" in listed
    with pytest.raises(InputError, match=r"unknown model 'missing-1'.*no_such_module"):
        registry.parse("missing-1")


def test_a_model_that_two_packages_offer_is_an_error_that_names_both(site: Site) -> None:
    site.install("toy-five", "toyfive", ["toy-5", "toy-shared", "diep"])
    site.install("toy-six", "toysix", ["toy-6", "toy-shared"])
    assert {"toy-5", "toy-6"} <= set(registry.cards())
    with pytest.raises(InputError, match="'toy-shared' is registered by packages toy-five and toy-six; uninstall"):
        registry.parse("toy-shared")
    with pytest.raises(InputError, match="'diep' is registered by packages latentcmp and toy-five"):
        registry.parse("diep")
    listed = CliRunner().invoke(app, ["models"]).output
    assert "toy-5" in listed
    assert "'toy-shared' is registered by packages toy-five and toy-six" in listed


def test_a_family_that_two_packages_register_is_an_error_that_names_both(site: Site) -> None:
    site.install("toy-seven", "chgnet", ["toy-7"])
    message = "family 'chgnet' is registered by packages latentcmp and toy-seven"
    for name in ("chgnet:file.pth", "chgnet-0.3.0", "toy-7"):
        with pytest.raises(InputError, match=message):
            registry.parse(name)
    assert registry.parse("sevennet-0").card.name == "sevennet-0"


def test_a_card_of_another_family_is_refused(site: Site) -> None:
    site.install("toy-eight", "toyeight", ["toy-8"], FAMILY.replace("{family!r}", '"other"'))
    with pytest.raises(InputError, match="the card 'toy-8' is of family 'other', registered as 'toyeight'"):
        registry.parse("toyeight:weights.pt")


def test_the_families_of_latentcmp_offer_the_documented_interface() -> None:
    for one in discovery.registrations():
        assert discovery._checked(one.family, one.module) is one.module


def test_a_model_that_does_not_fit_into_memory_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    full = dedent("""
        def load(card, path, device, trust):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    """).format()
    site.install("toy-nine", "toynine", ["toy-9"], FAMILY + full)
    with pytest.raises(latentcmp.errors.ModelError, match="toy-9 does not fit into the memory of cpu"):
        registry.load("toy-9")
