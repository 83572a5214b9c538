"""One model of the options: fields, keywords of `compare` and flags of the command line are the same."""

import inspect
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

import latentcmp
from latentcmp import cli
from latentcmp.comparison import run
from latentcmp.comparison.config import CompareConfig
from latentcmp.errors import InputError
from latentcmp.models.registry import DEFAULT_MODELS

OPTIONS = [name for name in CompareConfig.model_fields if name != "models"]
NOT_DEFAULT: dict[str, Any] = {
    "layer": "backbone",
    "order": 3,
    "device": "cpu",
    "measures": ("gfrd",),
    "reduce": "norms",
    "preset": "chorna2025",
    "seed": 7,
    "solver": "cutoff",
    "n_local_points": 5,
    "local_train_rows": 400,
    "local_test_rows": 300,
    "statistics": "qr",
    "baselines": "none",
    "memory": 2.5,
    "on_unsupported": "error",
    "batch_atoms": 8,
    "trust": True,
}


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[CompareConfig]:
    """The configurations that reach the pipeline, which does not run."""
    seen: list[CompareConfig] = []
    monkeypatch.setattr("latentcmp.comparison.run.run", lambda config, *given: seen.append(config))
    return seen


@pytest.mark.parametrize("name", OPTIONS)
def test_a_field_is_a_keyword_of_compare(name: str) -> None:
    keyword = inspect.signature(latentcmp.compare).parameters[name]
    field = CompareConfig.model_fields[name]
    assert keyword.default == field.default
    sequence = {"measures": Sequence[str]}
    assert get_type_hints(run.compare, vars(run))[name] == sequence.get(name, field.annotation)
    assert f"        {name}: " in (latentcmp.compare.__doc__ or "")


@pytest.mark.parametrize("name", OPTIONS)
def test_a_field_is_a_flag_of_the_command_line(name: str) -> None:
    command = typer.main.get_command(cli.app).commands["compare"]  # type: ignore[attr-defined]
    flag = next(parameter for parameter in command.params if parameter.name == name)
    default = CompareConfig.model_fields[name].default
    assert flag.opts == [f"--{name.replace('_', '-')}"]
    assert flag.default == (list(default) if isinstance(default, tuple) else default)
    assert flag.help == CompareConfig.model_fields[name].description


def test_compare_has_no_other_keywords_and_the_models_come_first() -> None:
    assert [*inspect.signature(latentcmp.compare).parameters] == ["models", "structures", *OPTIONS, "progress"]
    assert CompareConfig.of().models == DEFAULT_MODELS
    assert f"Default: {' '.join(DEFAULT_MODELS)}." in (CompareConfig.model_fields["models"].description or "")
    with pytest.raises(TypeError, match="ordr"):
        latentcmp.compare(ordr=3)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="there is no option 'ordr'; options are models, layer"):
        CompareConfig.of(ordr=3)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_keyword_reaches_the_configuration(name: str, configured: list[CompareConfig]) -> None:
    latentcmp.compare(["diep"], **{name: NOT_DEFAULT[name]})
    assert configured == [CompareConfig.of(models=["diep"], **{name: NOT_DEFAULT[name]})]
    assert getattr(configured[0], name) == NOT_DEFAULT[name] != CompareConfig.model_fields[name].default


@pytest.mark.parametrize("given", ["gfre,gfrd", ["gfre , gfrd"], ["gfre", "gfrd", "gfre"], iter(["gfre", "gfrd"])])
def test_measures_are_separated_by_commas_or_repeated(given: Any) -> None:
    assert CompareConfig.of(measures=given).measures == ("gfre", "gfrd")


def test_measures_that_are_no_names_are_explained() -> None:
    with pytest.raises(InputError, match="measures: input should be a valid tuple, got 3"):
        CompareConfig.of(measures=3)


def without(package: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that cannot import a package."""
    code = f"import sys; sys.modules[{package!r}] = None\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.slow
def test_only_a_call_of_compare_needs_pydantic() -> None:
    code = (
        "import latentcmp, numpy\n"
        "matrix = numpy.random.default_rng(0).normal(size=(60, 3))\n"
        "print(latentcmp.compare_features({'a': matrix, 'b': matrix**2}).models, latentcmp.compare.__name__)\n"
        "try:\n    latentcmp.compare(['diep'])\n"
        "except latentcmp.errors.MissingPackageError as error:\n    print(error)\n"
    )
    done = without("pydantic", code)
    assert done.stdout.splitlines()[0] == "('a', 'b') compare", done.stderr
    assert "pydantic, which is not installed: pip install 'latentcmp[cli]'" in done.stdout


@pytest.mark.parametrize("package", ["typer", "rich", "pydantic", "ase"])
def test_the_command_line_names_the_package_it_lacks(package: str) -> None:
    done = without(package, "from latentcmp.__main__ import main; main()")
    assert done.returncode == 2
    assert done.stderr == f"Error: {package} not installed: pip install 'latentcmp[cli]'\n"


@pytest.mark.slow
def test_a_name_that_needs_the_extra_says_so() -> None:
    code = "import latentcmp; print(latentcmp.JointStatistics.__name__); latentcmp.extract"
    done = without("ase", code)
    assert done.stdout == "JointStatistics\n"
    assert "MissingPackageError: latentcmp.extract needs ase, which is not installed: pip install" in done.stderr


def test_the_packages_looked_for_are_those_of_the_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    required = {requirement.split(">")[0] for requirement in project["optional-dependencies"]["cli"]}
    assert set(latentcmp.CLI_PACKAGES) == required


def test_the_help_needs_neither_torch_nor_ase() -> None:
    code = "import sys, latentcmp.cli; print({'torch', 'ase', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
