"""Errors at the root of the package."""

import pytest

import latentcmp
from latentcmp import errors

NAMES = [name for name, value in vars(errors).items() if isinstance(value, type)]


@pytest.mark.parametrize("name", NAMES)
def test_every_error_is_at_the_root_and_is_one_of_latentcmp(name: str) -> None:
    assert name in latentcmp.__all__
    assert getattr(latentcmp, name) is getattr(errors, name)
    assert issubclass(getattr(latentcmp, name), latentcmp.LatentcmpError)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InputError", ValueError),
        ("ModelError", RuntimeError),
        ("HookError", RuntimeError),
        ("MissingPackageError", ImportError),
        ("UntrustedCheckpointError", PermissionError),
    ],
)
def test_errors_are_caught_as_those_of_python(name: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(latentcmp, name), builtin)
