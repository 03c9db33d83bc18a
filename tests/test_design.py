"""The design page names files, functions and imports of the code, and all of them are there."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "assent"
ROOTS = (PACKAGE, ROOT, ROOT / "tests/storage")
REFERENCE = re.compile(r"`([\w/]+\.py)(?::([\w.]+))?`")
FOLDER = re.compile(r"`([\w/]+/)`")
ARROW = re.compile(r"^    (\w+) --> (.+)$", re.MULTILINE)


@cache
def names_in(path: Path) -> set[str]:
    """The functions, classes (also as `Class.method`) and constants of a module."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                    names.add(f"{node.name}.{member.name}")
        if isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def test_what_the_page_names_is_there() -> None:
    missing = []
    for file, name in sorted(set(REFERENCE.findall(PAGE))):
        paths = [root / file for root in ROOTS if (root / file).exists()]
        if not paths or (name and name not in names_in(paths[0])):
            missing.append((file, name))
    assert missing == []


def test_the_folders_on_the_page_are_there() -> None:
    folders = set(FOLDER.findall(PAGE)) - {"assent/", "storage/postgres/"}
    missing = [name for name in folders if not (PACKAGE / name).is_dir()]
    assert missing == []


def imports_between_rooms() -> Iterator[tuple[str, str]]:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                package, _, module = node.module.partition(".")
                imported = module.partition(".")[0]
                if package == "assent" and room in rooms and imported not in (room, "core", ""):
                    yield room, imported


def test_the_drawing_shows_the_imports() -> None:
    drawn = {(room, each) for room, rooms in ARROW.findall(PAGE) for each in rooms.split(" & ")}
    assert drawn == set(imports_between_rooms())


def test_the_order_of_layers_is_that_of_the_check() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    [layers] = [each["layers"] for each in contracts if each["type"] == "layers"]
    order = " -> ".join(layers).replace("assent.", "")
    assert order in " ".join(PAGE.split())
