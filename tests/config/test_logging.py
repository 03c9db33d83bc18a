"""The log in both formats, for our own records and those of libraries; and the server's own."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from assent.config.logging import TALKATIVE, LogFormat, configure_logging
from assent.core.text import is_unseen
from tests.support.secrets import leaks
from tests.support.server import asking, scripted_agents, serving

NAMES = ("uvicorn.access", "langchain", *TALKATIVE)


def logged(monkeypatch: pytest.MonkeyPatch, log_format: LogFormat, level: str = "info") -> str:
    """The log of one record of each kind."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    configure_logging(log_format)
    configure_logging(log_format, level)

    log = structlog.get_logger("assent.test")
    log.debug("Unheard.")
    log.info("A run ended.", run_id="r", lines="one\ntwo")
    for name in NAMES:
        logging.getLogger(name).info("%s said", name)
    try:
        raise ValueError("It broke.")
    except ValueError:
        log.exception("A run failed.", seconds=1.5)
        logging.getLogger("langchain").exception("A chain failed.")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("Old.", DeprecationWarning, stacklevel=1)
    return out.getvalue()


def test_json_is_one_object_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[dict[str, Any]] = [
        json.loads(line) for line in logged(monkeypatch, "json").splitlines()
    ]
    assert [(record["level"], record["logger"]) for record in records] == [
        ("info", "assent.test"),
        ("info", "uvicorn.access"),
        ("info", "langchain"),
        ("error", "assent.test"),
        ("error", "langchain"),
        ("warning", "py.warnings"),
    ]
    for record in records:
        assert datetime.fromisoformat(record["timestamp"]).utcoffset() == timedelta(0)

    first, access, _, failed, chain, _ = records
    assert (first["event"], first["run_id"], first["lines"]) == ("A run ended.", "r", "one\ntwo")
    assert access["event"] == "uvicorn.access said"
    assert failed["seconds"] == 1.5
    for record in (failed, chain):
        assert record["exception"].startswith("Traceback")
        assert record["exception"].endswith("ValueError: It broke.")


def test_console_is_lines_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = logged(monkeypatch, "console").splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT[\d:.]+Z \[info +\] A run ended\. +\[assent\.test\] "
        r"lines='one\\ntwo' run_id=r",
        lines[0],
    )
    assert re.search(r"Z \[info +\] uvicorn\.access said +\[uvicorn\.access\]", lines[1])
    assert lines.count("ValueError: It broke.") == 2


def test_nothing_that_is_logged_commands_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    configure_logging("console")
    try:
        raise ValueError("\x1b[2Jgone")
    except ValueError:
        structlog.get_logger("assent.test").exception("A call failed.", tool="\x1b[31mpay\u202e")
    logging.getLogger("uvicorn.access").info("%s said", "\x9b2J")

    text = out.getvalue()
    assert r"tool=\u001b[31mpay\u202e" in text
    assert r"ValueError: \u001b[2Jgone" in text
    assert r"\u009b2J said" in text
    assert {char for char in text if is_unseen(char)} == {"\n"}


@pytest.mark.logs_secrets
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_is_logged(monkeypatch: pytest.MonkeyPatch, log_format: LogFormat) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    configure_logging(log_format, "debug", secrets=["hush hush"])
    ours = f"ask_{'k' * 59}"
    found = {"key": ours, "headers": [(b"authorization", b"Bearer something")], ours: 3}
    log = structlog.get_logger("assent.test")
    log.info("GET /threads/%s", ours, found=found, said="hush hush", error=ValueError(ours))
    logging.getLogger("uvicorn.error").info("%s came", ours)
    try:
        raise ValueError(f"hush hush {ours}")
    except ValueError:
        log.exception("A call failed.")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(ours, DeprecationWarning, stacklevel=1)

    text = out.getvalue()
    assert leaks(text) == []
    assert "hush" not in text and "something" not in text
    assert "ValueError: … …" in text.replace(r"\u2026", "…")
    assert "GET /threads/…" in text.replace(r"\u2026", "…")


def test_a_level_holds_for_every_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = logged(monkeypatch, "json", "error").splitlines()
    assert [json.loads(line)["level"] for line in lines] == ["error", "error"]


async def test_every_line_of_a_servers_log_is_json(tmp_path: Path) -> None:
    secrets = {"ASSENT_API_KEYS": "ann:secret-of-ann", "ASSENT_LOG_LEVEL": "debug"}
    with serving(
        tmp_path, scripted_agents(tmp_path, "agent"), ASSENT_LOG_FORMAT="json", **secrets
    ) as server:
        async with asking(server, authorization="Bearer secret-of-ann") as api:
            await api.http.post("/agent/invoke", json={"message": "a word of ann's"})
            await api.http.post("/agent/invoke", json={"message": "boom"})
        server.terminate()
        lines = server.output.splitlines()

    records = [json.loads(line) for line in lines]
    for record in records:
        assert {"timestamp", "level", "logger", "event"} <= record.keys()
    assert "uvicorn.error" in {record["logger"] for record in records}
    (started,) = [record for record in records if record["event"] == "server started"]
    assert (started["url"], started["agents"]) == (server.url, ["agent"])
    for word in ("secret-of-ann", "a word of ann's"):
        assert word not in server.output
