"""Versions of the packages that results may depend on."""

import platform
from importlib.metadata import version

from latentcmp._version import __version__


def versions() -> dict[str, str]:
    """Return the versions of latentcmp, Python and the packages that results may depend on."""
    packages = {package: version(package) for package in ("torch", "numpy", "ase", "e3nn")}
    return {"latentcmp": __version__, "python": platform.python_version(), **packages}
