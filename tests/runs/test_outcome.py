"""How a run ends, as values: what is stored, what is told, and what is kept back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openai
import pytest
from langgraph.errors import GraphRecursionError

from assent.core.approval import Approval, ApprovalKind, ApprovalStatus
from assent.core.errors import AgentLoadError, InvalidRequest
from assent.core.events import (
    ApprovalRequired,
    Done,
    Error,
    Interrupt,
    RunPaused,
    ToolUnknown,
    Usage,
    event_type,
)
from assent.core.logs import APPROVALS
from assent.core.policy import Policy
from assent.core.rows import Run, RunKind, RunStatus, Thread, ThreadStatus
from assent.graph.state import Head
from assent.runs.outcome import explain, failed, paused, succeeded
from tests.support.models import ScriptedModel
from tests.support.rows import replace

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
LATER = datetime(2026, 3, 4, 13, 0, 0, tzinfo=UTC)
SECRET = "postgres://admin:swordfish@10.0.0.5/records"

THREAD = Thread(
    thread_id="t", owner="ann", status=ThreadStatus.BUSY, created_at=NOON, updated_at=NOON, agent="clerk", run_id="r",
    checkpoint_id="before", version=4,
)  # fmt: skip
RUN = Run(
    run_id="r", thread_id="t", owner="ann", agent="clerk", kind=RunKind.INPUT, status=RunStatus.RUNNING, created_at=NOON,
    started_at=NOON, input={"message": "hi"}, version=2,
)  # fmt: skip
HEAD = Head("c", ("approval",))


def asked(approval_id: str, **changes: Any) -> Approval:
    made = Approval(
        approval_id=approval_id, thread_id="t", requested_at=NOON, kind=ApprovalKind.TOOL, digest="d", allowed=("approve", "reject"), tool="pay",
        tool_call_id=f"call-{approval_id}", args={"amount": 5}, preview={"pays": 5}, node="approval", message_id="m",
        checkpoint_id="c", policy=Policy(allowed=("approve", "reject")),
    )  # fmt: skip
    return replace(made, **changes)


# ── explain ───────────────────────────────────────────────────────────────────────────────────────


class ProviderError(Exception):
    """As the clients of OpenAI and Anthropic raise it."""

    def __init__(self, status_code: Any) -> None:
        super().__init__(SECRET)
        self.status_code = status_code


def raised_by_a_model(error: Exception) -> Exception:
    def fail(messages: Any) -> Any:
        raise error

    with pytest.raises(type(error)) as raised:
        ScriptedModel(script=fail).invoke("Hi")
    return raised.value


def openai_error(status: int) -> Exception:
    """What a node gets that calls the provider without LangChain."""
    response = httpx.Response(status, request=httpx.Request("POST", "http://127.0.0.1"))
    return openai.APIStatusError(SECRET, response=response, body=None)


def googles(code: int) -> Exception:
    error = RuntimeError(SECRET)
    error.code = code  # type: ignore[attr-defined]
    return error


def wrapped(cause: Exception) -> Exception:
    error = RuntimeError(SECRET)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (RuntimeError(SECRET), "agent_error", "RuntimeError"),
        (KeyError(SECRET), "agent_error", "KeyError"),
        (ExceptionGroup(SECRET, [ValueError(SECRET)]), "agent_error", "ExceptionGroup"),
        (raised_by_a_model(ProviderError(429)), "provider_error", "429"),
        (raised_by_a_model(ProviderError("429")), "agent_error", "ProviderError"),
        # A tool's own client: its server's status says nothing about the model's provider.
        (ProviderError(429), "agent_error", "ProviderError"),
        (openai_error(429), "provider_error", "429"),
        # As Google's and LangChain's own integrations raise it.
        (raised_by_a_model(googles(429)), "provider_error", "429"),
        (raised_by_a_model(wrapped(ProviderError(429))), "provider_error", "429"),
        (GraphRecursionError(SECRET), "recursion_limit", "ASSENT_RECURSION_LIMIT"),
        (InvalidRequest("Ask for less."), "invalid_request", "Ask for less."),
        (AgentLoadError("There is no file."), "agent_load_error", "There is no file."),
    ],
)
def test_an_error_is_explained_without_what_it_says_itself(
    error: Exception, code: str, says: str
) -> None:
    explained, sentence = explain(error, RUN)
    assert explained == code
    assert says in sentence
    assert SECRET not in sentence
    assert sentence.endswith(".")


def test_an_error_that_nobody_foresaw_names_the_run_to_look_for_in_the_log() -> None:
    _, sentence = explain(RuntimeError("x"), replace(RUN, run_id="run-77"))
    assert "run-77" in sentence


# ── endings ───────────────────────────────────────────────────────────────────────────────────────


def test_a_run_that_failed_leaves_a_thread_that_takes_new_input() -> None:
    change = failed(THREAD, RUN, *explain(RuntimeError(SECRET), RUN), "agent", LATER)
    thread, run = change.rows
    assert thread == replace(THREAD, status=ThreadStatus.ERROR, updated_at=LATER, version=5)
    assert isinstance(run, Run)
    assert (run.status, run.ended_at, run.version) == (RunStatus.ERROR, LATER, 3)
    (event,) = change.events
    assert isinstance(event, Error)
    assert run.error == {"code": event.code, "message": event.message}
    assert (event.thread_id, event.run_id, event.ts, event.node) == ("t", "r", LATER, "agent")
    assert SECRET not in repr(change)


def test_a_run_that_succeeded() -> None:
    used = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "steps": 4}
    change = succeeded(THREAD, replace(RUN, usage=used), HEAD, LATER)
    assert change.rows == (
        replace(THREAD, status=ThreadStatus.IDLE, checkpoint_id="c", updated_at=LATER, version=5),
        replace(RUN, usage=used, status=RunStatus.SUCCESS, ended_at=LATER, version=3),
    )
    (done,) = change.events
    assert isinstance(done, Done)
    assert (done.usage, done.steps) == (Usage(input_tokens=1, output_tokens=2, total_tokens=3), 4)


SECOND = LATER + timedelta(microseconds=1)


def test_a_pause_stores_each_question_once_and_tells_of_it() -> None:
    change = paused(THREAD, RUN, [asked("a"), asked("b")], HEAD, LATER)
    thread, run, *approvals = change.rows
    assert thread == replace(
        THREAD,
        status=ThreadStatus.INTERRUPTED,
        checkpoint_id="c",
        pending=("a", "b"),
        updated_at=LATER,
        version=5,
    )
    assert isinstance(run, Run)
    assert run.status is RunStatus.INTERRUPTED
    assert [
        (row.approval_id, row.status, row.requested_at, row.version)  # type: ignore[union-attr]
        for row in approvals
    ] == [
        ("a", ApprovalStatus.PENDING, LATER, 1),
        ("b", ApprovalStatus.PENDING, SECOND, 1),
    ]
    required, copy, *_, last = change.events
    assert (copy.thread_id, event_type(copy)) == (APPROVALS, "approval_required")
    assert isinstance(required, ApprovalRequired)
    assert (required.approval_id, required.args, required.digest, required.preview) == (
        "a",
        {"amount": 5},
        "d",
        {"pays": 5},
    )
    assert required.allowed == ("approve", "reject")
    assert isinstance(last, RunPaused)
    assert (last.approvals, last.next) == (("a", "b"), ("approval",))


def test_what_code_asked_is_told_before_the_run_pauses() -> None:
    told = Interrupt(node="ask", task_id="1", interrupt_id="i", value={"how": "many"})
    change = paused(THREAD, RUN, [asked("a")], HEAD, LATER, interrupts=[told])
    *_, interrupt, last = change.events
    assert interrupt == replace(told, ts=LATER, thread_id="t", run_id="r")
    assert isinstance(last, RunPaused)


def test_a_call_that_was_cut_off_is_told_of_before_a_person_is_asked() -> None:
    change = paused(
        THREAD,
        RUN,
        [asked("a", kind=ApprovalKind.UNKNOWN_OUTCOME, node="tools")],
        HEAD,
        LATER,
    )
    unknown, required = change.events[:2]
    assert isinstance(unknown, ToolUnknown)
    assert (unknown.tool, unknown.tool_call_id, unknown.node, unknown.run_id) == (
        "pay",
        "call-a",
        "tools",
        "r",
    )
    assert isinstance(required, ApprovalRequired)
    assert required.kind == "unknown_outcome"
