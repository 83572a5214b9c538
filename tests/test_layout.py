"""The order of the rooms: an import points up the list, and modules do not import each other in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "latentcmp"
ROOMS = (
    "errors",
    "_version",
    "_runtime",
    "systems",
    "hooks",
    "models",
    "ops",
    "features",
    "statistics",
    "measures",
    "metrics",
    "nn",
    "monitor",
    "report",
    "comparison",
    "cli",
    "__main__",
)
"""From what knows least to what knows most."""
ALIASES = {("latentcmp.statistics.joint", "latentcmp.measures.global_errors")}
"""Imports inside a method that only forwards to the function of that name."""
MODEL_PACKAGES = {"chgnet", "sevenn", "diep", "pymatgen", "matscipy"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def room_of(module: str) -> str:
    return [*module.split("."), ""][1]


def imported(module: str) -> set[str]:
    """Modules of the package that a module imports anywhere, type checking blocks left out."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= submodules & set(MODULES) or {node.module}
    return {name for name in found if name in MODULES and (module, name) not in ALIASES} - {module, "latentcmp"}


GRAPH = {module: imported(module) for module in MODULES if module != "latentcmp"}


def test_every_room_is_in_the_list() -> None:
    assert {room_of(module) for module in GRAPH} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_up_the_list(room: str) -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if room_of(module) == room and ROOMS.index(room_of(other)) > ROOMS.index(room)
    ]
    assert not wrong


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    try:
        order = list(TopologicalSorter(GRAPH).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")
    assert set(order) == set(GRAPH)


def test_model_packages_are_imported_by_families_alone() -> None:
    wrong = []
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            packages = {name.split(".")[0] for name in names} & MODEL_PACKAGES
            if packages and not module.startswith("latentcmp.models.families."):
                wrong.append(f"{module} imports {', '.join(packages)}")
    assert not wrong
