"""Examples in the docstrings of the installed package give what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import latentcmp

ROOT = Path(latentcmp.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def with_examples() -> list[str]:
    """Modules with a prompt in their text: those without are not imported (nor kernels, nor benchmarks)."""
    paths = sorted(ROOT.rglob("*.py"))
    found = [path.relative_to(ROOT.parent) for path in paths if ">>> " in path.read_text(encoding="utf-8")]
    names = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in found]
    return [name for name in names if not name.startswith("latentcmp.benchmarks")]


@pytest.mark.parametrize("name", with_examples())
def test_examples_give_what_they_say(name: str) -> None:
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("latentcmp"):
            raise
        pytest.skip(f"{error.name} is not installed")
    found = doctest.testmod(module, optionflags=FLAGS)
    assert found.attempted, f"the examples of {name} stand where doctest does not look"
    assert not found.failed, f"{found.failed} of {found.attempted} examples of {name} fail: see above"
