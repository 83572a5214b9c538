"""Versions of the packages that results may depend on."""

import platform
from importlib.metadata import PackageNotFoundError, version

from latentcmp._version import __version__

PACKAGES = ("torch", "numpy", "ase", "e3nn")


def versions() -> dict[str, str]:
    """Return the versions of latentcmp, Python, and of those of `PACKAGES` that are installed."""
    found = {"latentcmp": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
