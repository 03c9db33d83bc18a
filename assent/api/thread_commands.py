"""Commands of LangGraph's thread protocol: one JSON object each, and one that answers it."""

from __future__ import annotations

from typing import Final

from fastapi import Request
from pydantic import Field, StrictInt

from assent.api.deps import RunsBy
from assent.api.dialects.langgraph.protocol import last_before
from assent.api.json_body import read_as
from assent.api.langgraph_runs import begin
from assent.api.langgraph_shapes import LangGraphBody, ThreadRunRequest
from assent.api.problems import EXPECTED, Asked, document
from assent.approvals.idempotency import Key
from assent.core.access import Right
from assent.core.audit import Actor
from assent.core.errors import InvalidRequest
from assent.core.json import Json, JsonObject
from assent.core.text import visible

COMMANDS: Final = "/threads/{id}/commands"
"""Where commands are sent."""

PARAMS: Final = "params"
"""The field of a command in which it says what to do, as errors name it."""

METHODS: Final = ("run.start", "input.respond")

INSTEAD: Final = {
    "subscription": "Subscriptions are of a WebSocket. Over HTTP, each POST of "
    "/threads/{id}/stream/events is one.",
    "state": "GET /threads/{id}/state and POST /threads/{id}/history show states, and "
    "POST /threads/{id}/fork goes on from one.",
    "agent": "The channel 'lifecycle' tells which graphs there are.",
    "input": "Send it with 'run.start': it waits until the thread is free.",
}
"""What there is in place of the commands of each kind that are not carried out here."""

OWN: Final = "the thread's own"
"""In place of an assistant, where a thread has one."""

REFUSED: Final = (400, 409, 410, 413, 422)
"""The statuses with which a command is refused, and not the request that brought it."""

SHOWN = 60


class CommandRequest(LangGraphBody):
    """A command. The answer repeats its `id`."""

    id: StrictInt = Field(ge=0)
    method: str = Field(min_length=1, max_length=100)
    params: JsonObject = Field(default_factory=dict)


async def carry_out(
    request: Request,
    runs_by: RunsBy,
    thread_id: str,
    command: CommandRequest,
    by: Actor,
    key: Key | None,
) -> JsonObject:
    """The answer to the command, which is carried out, or refused with a sentence. Raises what
    refuses the request."""
    try:
        body = _body_of(command)
    except UnknownCommand as error:
        return failure(command.id, 501, str(error))
    except EXPECTED as error:
        return await _refused(request, command, error)
    if body.command is not None:
        # Where there is no such thread, it is the request that is refused.
        await runs_by(Right.DECIDE).thread(thread_id)
    try:
        begun = await begin(runs_by, thread_id, body, by, key, decides=False)
    except EXPECTED as error:
        return await _refused(request, command, error)
    return success(command.id, {"run_id": begun.run.run_id}, before=begun.first_seq)


async def _refused(request: Request, command: CommandRequest, error: Exception) -> JsonObject:
    """The answer to a command that was refused. Raises what refuses the request."""
    status, problem, _ = await document(error, Asked.by(request))
    if status not in REFUSED and not (status == 404 and command.method == "input.respond"):
        raise error
    return failure(command.id, status, str(problem["detail"]), command.method)


def _body_of(command: CommandRequest) -> ThreadRunRequest:
    """The request that the command stands for. Raises `InvalidRequest`, or
    `RequestValidationError`."""
    match command.method:
        case "run.start":
            body = _new_run(command.params)
        case "input.respond":
            body = _answer(command.params)
        case method:
            kind = method.partition(".")[0]
            named = visible(method[:SHOWN])
            raise UnknownCommand(
                f"'{named}' is not carried out here. {INSTEAD.get(kind, 'There is: ' + _METHODS)}"
            )
    return read_as(ThreadRunRequest, body, PARAMS)


_METHODS: Final = ", ".join(METHODS) + "."


class UnknownCommand(InvalidRequest):
    """There is no such command here."""


def _new_run(params: JsonObject) -> JsonObject:
    body = {name: params[name] for name in _OF_RUNS if params.get(name) is not None}
    strategy = params.get("multitask_strategy", params.get("multitaskStrategy"))
    if strategy is not None:
        body["multitask_strategy"] = strategy
    return {"if_not_exists": "create", **_placed(body), "input": params.get("input")}


_OF_RUNS: Final = ("assistant_id", "config", "context", "metadata", "if_not_exists")


def _placed(body: JsonObject) -> JsonObject:
    """The body with the checkpoint to go on from, which clients put into the config."""
    config = body.get("config")
    configurable = config.get("configurable") if isinstance(config, dict) else None
    if not isinstance(configurable, dict) or "checkpoint_id" not in configurable:
        return body
    rest = {name: value for name, value in configurable.items() if name != "checkpoint_id"}
    return {
        **body,
        "config": {**body["config"], "configurable": rest},
        "checkpoint_id": configurable["checkpoint_id"],
    }


def _answer(params: JsonObject) -> JsonObject:
    """An answer to what the thread waits for, by the ids of interrupts. Where in the graph those
    are is known here."""
    given = params.get("responses", [params])
    resume: JsonObject = {}
    for each in given if isinstance(given, list) else ():
        id = each.get("interrupt_id") if isinstance(each, dict) else None
        if not isinstance(id, str) or "response" not in each:
            resume = {}
            break
        resume[id] = each["response"]
    if not resume:
        raise InvalidRequest(
            "Answer with 'interrupt_id' and 'response', or with a list of such 'responses'."
        )
    command = {name: params[name] for name in ("update", "goto") if params.get(name) is not None}
    body = {name: params[name] for name in ("config", "metadata") if params.get(name) is not None}
    return {"assistant_id": OWN, **_placed(body), "command": {**command, "resume": resume}}


# ── answers ───────────────────────────────────────────────────────────────────────────────────────


def success(id: int, result: JsonObject, *, before: int = 0) -> JsonObject:
    """The answer to a command that was carried out. With the number of the first entry in the log
    that came of it, clients know which events on their way to them are older: an interrupt among
    these is not asked any more."""
    meta = {"meta": {"applied_through_seq": last_before(before)}} if before else {}
    return {"type": "success", "id": id, "result": result, **meta}


def failure(id: int | None, status: int, message: str, method: str = "") -> JsonObject:
    """The answer to one that was not."""
    return {"type": "error", "id": id, "error": _code(status, method), "message": message}


def _code(status: int, method: str) -> str:
    if status in (404, 409) and method == "input.respond":
        return "no_such_interrupt"
    if method.startswith("subscription.") and status == 404:
        return "no_such_subscription"
    return _CODES.get(status, "unknown_error")


_CODES: Final = {
    400: "invalid_argument",
    401: "permission_denied",
    403: "permission_denied",
    404: "no_such_run",
    422: "invalid_argument",
    501: "unknown_command",
}


def method_of(command: Json) -> str:
    """The method of a command."""
    method = command.get("method") if isinstance(command, dict) else None
    return method if isinstance(method, str) else ""
