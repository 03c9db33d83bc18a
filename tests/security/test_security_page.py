"""SECURITY.md names what is there: files, and tests in them."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.command import REPOSITORY

PAGE = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`((?:assent|tests)/[\w/]+\.py)(?::(\w+))?`")
MODEL, VERSIONS = PAGE.split("## Versions of dependencies")
FIXED = re.compile(r"^\| ([\w-]+) \| ([\d.]+) \| [^|]*(?:CVE|GHSA)-", re.MULTILINE)
PINS = ("requirements/run.txt", "requirements/lowest.txt")
PINNED = re.compile(r"^([\w-]+)==([\w.]+)", re.MULTILINE)
PLACES = ("client", "approves", "model", "tool", "disk", "network")


def test_each_file_and_test_that_is_named_is_there() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 60
    for file, test in named:
        path = REPOSITORY / file
        assert path.is_file(), file
        text = path.read_text(encoding="utf-8")
        assert not test or re.search(rf"^ *(async )?def {test}\(", text, re.MULTILINE), (file, test)


def test_each_promise_and_each_threat_names_what_shows_it() -> None:
    rows = [line for line in MODEL.splitlines() if line.startswith("| ") and "shown by" not in line]
    assert [row for row in rows if "`tests/" not in row] == []
    promises = [row.split("|")[1].strip() for row in rows if row.startswith("| P")]
    assert promises == [f"P{number}" for number in range(1, 13)]


def test_every_place_is_asked_every_question() -> None:
    _, *places = re.split(r"^### ", MODEL, flags=re.MULTILINE)
    assert len(places) == len(PLACES)
    for place, name in zip(places, PLACES, strict=True):
        title, _, text = place.partition("\n")
        assert name in title
        asked = {
            letter
            for row in re.findall(r"^\| ([A-Z, ]+) \|", text, re.MULTILINE)
            for letter in row.split(", ")
        }
        assert asked <= set("STRIDE") and len(asked) >= 4, (title, asked)


def test_no_version_with_a_weakness_that_is_listed_is_taken_or_pinned() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    required = {each.name: each for each in map(Requirement, project["dependencies"])}
    pinned = [dict(PINNED.findall((REPOSITORY / file).read_text())) for file in PINS]
    rows = FIXED.findall(VERSIONS)
    assert len(rows) == VERSIONS.count("\n| ") - 1 >= 15
    for name, fixed in rows:
        (floor,) = (each.version for each in required[name].specifier if each.operator == ">=")
        for version in (floor, *(pins[name] for pins in pinned)):
            assert Version(version) >= Version(fixed), name
    for weakness in re.findall(r"(?:CVE|GHSA)-[\w-]+", (REPOSITORY / "pyproject.toml").read_text()):
        assert weakness in VERSIONS
