"""The examples in docstrings of rooms that need no model give what they say."""

import doctest
from importlib import import_module

import pytest

MODULES = ("_runtime.files", "features.data", "hooks.layout", "hooks.tap")


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name: str) -> None:
    failed, attempted = doctest.testmod(import_module(f"latentcmp.{name}"))
    assert attempted > 0
    assert failed == 0
