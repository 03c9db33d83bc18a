"""The few places that read more than the sender of a request sees. A new one is a decision: it is
written down here, with its reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import assent

ROOT = Path(assent.__file__).parent

OF_A_REQUEST = {
    "api/deps.py:_seen_by": "gives the runs as the sender sees them",
    "api/problems.py:Asked.by": "names those who may decide, and distrusts a thread",
    "api/embedding.py:Assent.runs": "is for the program itself",
    "api/routes/links.py:show": "has the token of the link for its authority",
    "api/routes/links.py:decide": "has the token of the link for its authority",
    "api/routes/slack.py:_Click._refusal": "distrusts a thread",
    "api/routes/slack.py:_Click._clicker": "takes the runs as the person behind the user sees them",
    "api/access/project_auth.py:_name_assistant": "takes the runs as the sender sees them",
    "api/routes/langgraph_server.py:ok": "says nothing of anybody",
    "api/routes/server.py:health": "says nothing of anybody",
    "api/routes/server.py:ready": "says nothing of anybody",
    "api/routes/audit.py:verify": "says of the chain whether it is whole",
    "api/routes/metrics.py:show_metrics": "has numbers of everybody's, and no names",
}
"""Where a request takes the whole program."""

OF_THE_RUNS = {
    "runs/service.py:Runs.__init__": "has it",
    "runs/service.py:Runs.seen_by": "makes a smaller one of it",
    "runs/service.py:Runs.uploads": "tells a request, which has caps, from the program",
    "runs/service.py:Runs._check_not_hidden": "looks for a thread that a new one cannot replace",
    "runs/service.py:Runs._may_run": "asks if whose schedule is due has a key that is good",
    "runs/service.py:Runs._next_seq": "asks for a number in the log of a thread to be made",
}
"""Where the service reads the whole storage."""

ROWS = (
    "threads|runs|approvals|answers|schedules|grants|files|file_uses|notifications|links|effects"
    "|timers|api_keys|sessions|tickets|assistants|assistant_versions"
)

OF_THE_SYSTEM = {
    "storage/sqlite/queries.py": "what engine, sweeper and dispatcher ask",
    "storage/sqlite/tables.py": "the condition itself",
    "storage/sqlite/checkup.py": "assent doctor",
    "storage/sqlite/database.py": "if there has ever been a key",
    "storage/sqlite/checkpoints/removals.py": "retention",
}
"""The files with SQL that reads rows."""


def functions(tree: ast.AST, around: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Every function by its name, those of classes with the name of the class."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions(node, f"{around}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{around}{node.name}", node


def users_of(attribute: str, folder: str) -> set[str]:
    """The functions below the folder that use an attribute of this name."""
    found: set[str] = set()
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name, function in functions(ast.parse(path.read_text(encoding="utf-8"))):
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute) and node.attr == attribute:
                    found.add(f"{path.relative_to(ROOT)}:{name}")
    return found


def test_a_request_takes_the_whole_program_in_these_places_only() -> None:
    assert users_of("program", "api") == OF_A_REQUEST.keys()


def test_the_service_reads_the_whole_storage_in_these_places_only() -> None:
    assert users_of("_whole", "runs") == OF_THE_RUNS.keys()


def test_rows_are_read_by_the_one_query_that_has_the_sight() -> None:
    reading = re.compile(rf"\b(FROM|JOIN) ({ROWS})\b")
    found = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if any(
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and reading.search(node.value)
            and "DELETE" not in node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    }
    assert found == OF_THE_SYSTEM.keys()


def test_no_route_knows_the_storage_by_its_kind() -> None:
    for path in (ROOT / "api").rglob("*.py"):
        if path.name not in ("app.py", "embedding.py"):
            assert "storage.sqlite" not in path.read_text(encoding="utf-8"), path
