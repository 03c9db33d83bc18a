"""Takes the client's files from the package that they are a part of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NEEDS_MORE = {"core/sealing.py"}
"""What only the server needs, and needs packages for that the client does not bring."""


class ClientFiles(BuildHookInterface[Any]):
    """Adds the files to a wheel or an sdist. An sdist has them beside this file; else they are in
    the repository."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        here = Path(self.root)
        package = here / "assent" if (here / "assent").exists() else here.parents[1] / "assent"
        for path in files_of(package):
            build_data["force_include"][str(package / path)] = f"assent/{path}"


def files_of(package: Path) -> Iterator[str]:
    """The files of the client in the package."""
    for pattern in ("__init__.py", "py.typed", "core/*.py", "client/*.py"):
        for found in sorted(package.glob(pattern)):
            path = found.relative_to(package).as_posix()
            if path not in NEEDS_MORE:
                yield path
