"""The plan of the house: a module imports only what lies on its own floor or below."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "cnnjax"
# From the bottom: what is on one line may import each other.
FLOORS = (
    ("errors", "runtime", "files"),
    ("cache", "config"),
    ("ops",),
    ("layers",),
    ("models",),
    ("data",),
    ("pretrained",),
    ("training",),
    ("transfer",),
    ("experiment", "reports"),
    ("sweeps",),
    ("command",),
)
HEIGHT = {name: height for height, floor in enumerate(FLOORS) for name in floor}
# On the same height, but they know nothing of each other.
APART = {"models": ("data",), "data": ("models", "layers", "ops")}


def imports(path: Path):
    """The floors that a module imports, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cnnjax"):
            _, _, below = node.module.partition(".")
            for alias in node.names:
                yield (below or alias.name).split(".")[0], node.lineno


def modules():
    return sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem in HEIGHT)


def test_every_module_has_a_floor():
    found = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in ROOT.rglob("*.py")}
    assert found - {"__init__"} == HEIGHT.keys()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_floors_point_down(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for other, line in imports(path):
        if other in HEIGHT:
            assert HEIGHT[other] <= HEIGHT[own], f"{path}:{line} imports {other}, which is above"
            assert other not in APART.get(own, ()), f"{path}:{line}: {own} knows nothing of {other}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_command_line_speaks_of_flags(path):
    """A library's error names its argument."""
    if path.relative_to(ROOT).parts[0] == "command":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise):
            texts = [leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)]
            said = [t for t in texts if isinstance(t, str) and "--" in t and "pip install" not in t]
            assert not said, f"{path}:{node.lineno}: {said}"
