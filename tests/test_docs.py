"""The documentation runs: every Python block of the tutorial and the how-to pages, in order, as a
reader would run it. And what it refers to is there."""

from __future__ import annotations

import ast
import inspect
import re
from codeop import CommandCompiler
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

DOCS = Path(__file__).parent.parent / "docs"
TUTORIAL = DOCS / "tutorial.md"
PAGES = sorted((DOCS / "how-to").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:)([^)#]+)")


def blocks(page: Path) -> list[str]:
    """The page's Python blocks, each with as many empty lines before it as make its line numbers
    those of the page."""
    text = page.read_text(encoding="utf-8")
    return ["\n" * text.count("\n", 0, block.start(1)) + block[1] for block in BLOCK.finditer(text)]


async def run(page: Path, names: dict[str, Any]) -> None:
    for source in blocks(page):
        code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        outcome = eval(code, names)  # With an await in it, the block is a coroutine.
        if inspect.iscoroutine(outcome):
            await outcome


async def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(blocks(TUTORIAL)) > 8
    await run(TUTORIAL, {"__name__": "tutorial"})


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem
)
async def test_a_how_to_page_runs_after_the_tutorial(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "tutorial"}
    await run(TUTORIAL, names)
    await run(page, names)


@pytest.mark.parametrize(
    "page", [page for page in [TUTORIAL, *PAGES] if blocks(page)], ids=lambda page: page.stem
)
def test_a_page_can_be_pasted_into_a_console(page: Path) -> None:
    """The console of Python 3.11 takes one line after another: there, an empty line ends a block,
    and nothing else does."""
    for source in blocks(page):
        console = CommandCompiler()
        console.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        statement: list[str] = []
        for line in [*source.splitlines(), ""]:
            statement.append(line)
            if console("\n".join(statement), str(page), "single") is not None:
                statement.clear()
        assert not any(statement), f"This does not end: {statement}"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_no_link_leads_nowhere(page: Path) -> None:
    links = [
        link
        for link in LINK.findall(page.read_text(encoding="utf-8"))
        if not link.startswith("http")
    ]
    assert [link for link in links if not (page.parent / unquote(link)).exists()] == []


def test_the_changelog_says_each_thing_once() -> None:
    """A merge of two branches that have moved or mended an entry leaves both."""
    text = (DOCS.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    begun = [line[:50] for line in text.splitlines() if line.startswith("- ")]
    assert [each for each, times in Counter(begun).items() if times > 1] == []
