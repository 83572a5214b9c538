"""The wrappers where their package is not installed."""

import sys
from importlib import import_module

import pytest

from latentcmp.errors import MissingPackageError


@pytest.mark.parametrize(
    ("wrapper", "packages"),
    [("torchmetrics", ["torchmetrics"]), ("lightning", ["lightning.pytorch", "pytorch_lightning"])],
)
def test_a_wrapper_without_its_package_says_what_to_install(
    wrapper: str, packages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"latentcmp.monitor.{wrapper}", raising=False)
    with pytest.raises(MissingPackageError, match=f"pip install {wrapper}"):
        import_module(f"latentcmp.monitor.{wrapper}")
