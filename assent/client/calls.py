"""Each operation of the server as a value: a request, and how its answer is read. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Generic, Literal, TypeVar, get_args
from urllib.parse import quote

import msgspec

from assent.client.values import (
    Agent,
    ApiKey,
    AuditRecord,
    AuditVerification,
    DecisionLink,
    EditPreview,
    EventPage,
    File,
    Grant,
    Health,
    Heard,
    MadeApiKey,
    Me,
    OneOutcome,
    OpenStream,
    Outcome,
    RevokedKeys,
    Run,
    RunResult,
    Schedule,
    ShownApproval,
    State,
    Thread,
    Told,
    Value,
    WrittenState,
)
from assent.core.clock import time_text
from assent.core.decisions import Approve, Decision, Edit, Reject, Respond, decision_to_json
from assent.core.errors import InvalidRequest
from assent.core.json import Json, JsonObject

T = TypeVar("T")
V = TypeVar("V", bound=Value)

JSON = "application/json"
EVENTS = "text/event-stream"
KEY = "Idempotency-Key"

Param = str | int | float | bool | datetime | None
Params = Mapping[str, str]
Decisions = Decision | Mapping[str, Decision | JsonObject] | Sequence[JsonObject]
"""One decision for the only pending approval, decisions by id, or any body that the route takes."""


class Again(Enum):
    """What becomes of a request whose answer did not come.

    `NEVER`: it may have been done, so it is not sent again. `READING`: it changes nothing, and is
    sent once more if its connection broke. `KEYED`: it has an `Idempotency-Key`, so it is sent
    again and done once. `DECIDING`: as that, and also while the server is full or its storage away.
    """

    NEVER = 1
    READING = 2
    KEYED = 3
    DECIDING = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """A request to the server; `read` makes the result of the answer's body."""

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Params = field(default_factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    again: Again = Again.NEVER


@dataclass(frozen=True, slots=True)
class Page(Generic[V]):
    """A part of a list, and the cursor of the next part."""

    items: tuple[V, ...]
    next: str | None


# ── requests ──────────────────────────────────────────────────────────────────────────────────────


def path_of(*parts: str) -> str:
    """The path with these parts, each quoted. Raises `InvalidRequest` for one that would lead
    elsewhere."""
    for part in parts:
        if part in ("", ".", ".."):
            raise InvalidRequest(f"{part!r} is no id. Nothing was sent.")
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def params_of(**values: Param) -> Params:
    """The parameters that have a value, as text."""
    return {name: _text(value) for name, value in values.items() if value is not None}


def at(wanted: Params, cursor: str | None) -> Params:
    """The parameters of a list's page at the cursor."""
    return {**wanted, **params_of(cursor=cursor)}


def _given(fields: JsonObject) -> JsonObject:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def _text(value: Param) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return time_text(value) if isinstance(value, datetime) else str(value)


def body_of(value: Json) -> bytes:
    """The value as JSON. Raises `InvalidRequest` for a number that JSON does not have, which would
    else be sent as null."""
    try:
        text = json.dumps(msgspec.to_builtins(value), allow_nan=False, ensure_ascii=False)
        return text.encode()
    except ValueError as error:
        raise InvalidRequest(f"The body is no JSON: {error}. Nothing was sent.") from error


def _get(path: str, read: Callable[[bytes], T], params: Params | None = None) -> Call[T]:
    return Call(method="GET", path=path, read=read, params=params or {}, again=Again.READING)


def _post(path: str, read: Callable[[bytes], T], body: Json = None) -> Call[T]:
    sent = {} if body is None else body
    return Call(method="POST", path=path, read=read, body=body_of(sent), headers=SENDS_JSON)


def _keyed(
    path: str, read: Callable[[bytes], T], body: Json, key: str, *, again: Again = Again.KEYED
) -> Call[T]:
    headers = {**SENDS_JSON, KEY: key}
    return Call(
        method="POST", path=path, read=read, body=body_of(body), headers=headers, again=again
    )


def _delete(path: str, read: Callable[[bytes], T]) -> Call[T]:
    return Call(method="DELETE", path=path, read=read)


def _patch(path: str, read: Callable[[bytes], T], body: Json) -> Call[T]:
    return Call(method="PATCH", path=path, read=read, body=body_of(body), headers=SENDS_JSON)


SENDS_JSON = {"Content-Type": JSON}


# ── answers ───────────────────────────────────────────────────────────────────────────────────────


def _object(body: bytes) -> JsonObject:
    return msgspec.json.decode(body, type=JsonObject)


def _nothing(body: bytes) -> None:
    """Read an answer without a body."""


def _one(kind: type[V]) -> Callable[[bytes], V]:
    return lambda body: kind.of(_object(body))


def _page(name: str, kind: type[V]) -> Callable[[bytes], Page[V]]:
    def read(body: bytes) -> Page[V]:
        fields = _object(body)
        return Page(tuple(map(kind.of, fields[name])), fields.get("next"))

    return read


def _several(name: str, kind: type[V]) -> Callable[[bytes], tuple[V, ...]]:
    return lambda body: tuple(map(kind.of, _object(body)[name]))


def _next_times(body: bytes) -> tuple[datetime, ...]:
    return tuple(map(datetime.fromisoformat, _object(body)["next_times"]))


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────


def run_body(message: Json, fields: JsonObject) -> JsonObject:
    """The body that starts a run; what is None is left out."""
    # A graph's own input may be null.
    given = {name: fields[name] for name in ("input",) if name in fields}
    return {**_given({"message": message, **fields}), **given}


def start_run(body: JsonObject, key: str) -> Call[Run]:
    return _keyed("/agent/runs", _one(Run), body, key)


def get_run(run_id: str) -> Call[Run]:
    return _get(path_of("runs", run_id), _one(Run))


def list_runs(params: Params) -> Call[Page[Run]]:
    return _get("/runs", _page("runs", Run), params)


def wait_for_run(run_id: str, timeout: float) -> Call[RunResult]:
    return _get(path_of("runs", run_id, "wait"), _one(RunResult), params_of(timeout=timeout))


def cancel_run(run_id: str, mode: str) -> Call[tuple[Run, ...]]:
    return _post(path_of("runs", run_id, "cancel"), _several("runs", Run), {"mode": mode})


# ── threads ───────────────────────────────────────────────────────────────────────────────────────


def create_thread(
    thread_id: str | None, metadata: JsonObject | None, if_exists: str
) -> Call[Thread]:
    body = {"metadata": metadata or {}, "if_exists": if_exists, **_given({"thread_id": thread_id})}
    return _post("/threads", _one(Thread), body)


def get_thread(thread_id: str) -> Call[Thread]:
    return _get(path_of("threads", thread_id), _one(Thread))


def list_threads(params: Params) -> Call[Page[Thread]]:
    return _get("/threads", _page("threads", Thread), params)


def change_thread(thread_id: str, metadata: JsonObject | None, title: str | None) -> Call[Thread]:
    body = _given({"metadata": metadata, "title": title})
    return _patch(path_of("threads", thread_id), _one(Thread), body)


def delete_thread(thread_id: str) -> Call[None]:
    return _delete(path_of("threads", thread_id), _nothing)


def get_state(thread_id: str, checkpoint_id: str | None, subgraphs: bool) -> Call[State]:
    params = params_of(checkpoint_id=checkpoint_id, subgraphs=subgraphs or None)
    return _get(path_of("threads", thread_id, "state"), _one(State), params)


def write_state(thread_id: str, body: JsonObject, key: str) -> Call[WrittenState]:
    return _keyed(path_of("threads", thread_id, "state"), _one(WrittenState), body, key)


def list_states(thread_id: str, limit: int, before: str | None) -> Call[tuple[State, ...]]:
    def read(body: bytes) -> tuple[State, ...]:
        return tuple(map(State.of, msgspec.json.decode(body, type=list[JsonObject])))

    params = params_of(limit=limit, before=before)
    return _get(path_of("threads", thread_id, "history"), read, params)


def fork_thread(thread_id: str, body: JsonObject, key: str) -> Call[Thread]:
    return _keyed(path_of("threads", thread_id, "fork"), _one(Thread), _given(body), key)


def cancel_thread(thread_id: str, mode: str) -> Call[tuple[Run, ...]]:
    return _post(path_of("threads", thread_id, "cancel"), _several("runs", Run), {"mode": mode})


def resume_thread(
    thread_id: str, decisions: Decisions, digests: Mapping[str, str] | None, key: str
) -> Call[Outcome]:
    body = answer_body(decisions, digests)
    path = path_of("threads", thread_id, "resume")
    return _keyed(path, _one(Outcome), body, key, again=Again.DECIDING)


def answer_body(decisions: Decisions, digests: Mapping[str, str] | None) -> Json:
    """The body that decides. Each of the `digests` goes with the decision of its id."""
    if isinstance(decisions, Approve | Edit | Reject | Respond):
        body: Json = decision_to_json(decisions)
    elif isinstance(decisions, Mapping) and not _is_answer(decisions):
        body = {"decisions": {id: _decision(decision) for id, decision in decisions.items()}}
    else:
        body = msgspec.to_builtins(decisions)
    for id, digest in (digests or {}).items():
        try:
            body["decisions"][id]["digest"] = digest
        except (KeyError, TypeError):
            raise InvalidRequest(
                f"There is a digest for '{id}', and no decision by that id. Give decisions by the "
                "ids of their approvals. Nothing was sent."
            ) from None
    return body


def _is_answer(decisions: Mapping[str, Json]) -> bool:
    return "decisions" in decisions or isinstance(decisions.get("type"), str)


def _decision(decision: Decision | JsonObject) -> JsonObject:
    if isinstance(decision, Mapping):
        return {**decision}
    return decision_to_json(decision)


# ── events ────────────────────────────────────────────────────────────────────────────────────────


Transport = Literal["sse", "websocket", "poll"]


def log_path(
    transport: Transport = "sse",
    *,
    thread_id: str | None = None,
    agent: str | None = None,
    user: str | None = None,
    run_id: str | None = None,
    approvals: bool = False,
) -> str:
    """The path of the events of one of these. Raises `InvalidRequest` unless one is named, and for
    a transport that it has not."""
    if transport not in get_args(Transport):
        raise InvalidRequest(
            f"There is no transport {transport!r}. There are: {', '.join(get_args(Transport))}."
        )
    if transport == "websocket" and thread_id is None:
        raise InvalidRequest("A WebSocket is one thread's: name its thread_id.")
    if transport == "poll" and run_id is not None:
        raise InvalidRequest("A run has no pages to poll: name its thread_id.")
    paths = {
        "thread_id": ("threads", thread_id, "ws" if transport == "websocket" else "events"),
        "agent": ("agents", agent, "events"),
        "user": ("users", user, "events"),
        "run_id": ("runs", run_id, "stream"),
        "approvals": ("approvals", "stream" if approvals else None),
    }
    named = [path for path in paths.values() if None not in path]
    if len(named) != 1:
        raise InvalidRequest(f"Name one of {', '.join(paths)}.")
    return path_of(*map(str, named[0]))


def get_events(
    path: str,
    after: int,
    types: str | None,
    limit: int | None = None,
    timeout: float | None = None,
    before: int | Literal["end"] | None = None,
) -> Call[EventPage]:
    """A page of events past `after`, or going back from `before`; with a `timeout`, an empty one is
    answered only after so many seconds."""
    params = params_of(after=after, before=before, types=types, limit=limit, timeout=timeout)
    return _get(path, _event_page, params)


def get_run_events(
    run_id: str,
    after: int,
    types: str | None,
    limit: int | None,
    before: int | Literal["end"] | None,
) -> Call[EventPage]:
    """The same of one run."""
    return get_events(path_of("runs", run_id, "events"), after, types, limit, before=before)


def open_events(path: str, after: int | None, types: str | None) -> Call[None]:
    """The stream of events past `after`."""
    headers = {"Accept": EVENTS, "Cache-Control": "no-store"}
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    params = params_of(types=types)
    return Call(method="GET", path=path, read=_nothing, params=params, headers=headers)


def stream_run(body: JsonObject, key: str) -> Call[None]:
    """Start a run; the answer is its events."""
    return _streaming(_keyed("/agent/stream", _nothing, body, key))


def stream_answer(
    thread_id: str, decisions: Decisions, digests: Mapping[str, str] | None, key: str
) -> Call[None]:
    """Decide; the answer is the events that follow."""
    body = answer_body(decisions, digests)
    return _streaming(_keyed(path_of("threads", thread_id, "resume"), _nothing, body, key))


def _streaming(call: Call[None]) -> Call[None]:
    return replace(call, headers={**call.headers, "Accept": EVENTS})


def types_of(types: Sequence[str] | None) -> str | None:
    """The types as a parameter."""
    names = names_of(types)
    return None if names is None else ",".join(names)


def names_of(types: Sequence[str] | None) -> Sequence[str] | None:
    """The types. Raises `InvalidRequest` for a text, which is a sequence of its letters."""
    if isinstance(types, str):
        raise InvalidRequest(f"The types are a list of names: write [{types!r}].")
    return types


class _Events(msgspec.Struct):
    events: list[msgspec.Raw]
    next: int
    more: bool = False
    last: int = 0


def _event_page(body: bytes) -> EventPage:
    # Kept as they are on the wire, not as they would be written anew.
    page = msgspec.json.decode(body, type=_Events)
    events = tuple(Heard.read(bytes(raw)) for raw in page.events)
    return EventPage(events, page.next, page.more, page.last)


# ── approvals ─────────────────────────────────────────────────────────────────────────────────────


def list_approvals(params: Params) -> Call[Page[ShownApproval]]:
    return _get("/approvals", _page("approvals", ShownApproval), params)


def get_approval(approval_id: str) -> Call[ShownApproval]:
    return _get(path_of("approvals", approval_id), _one(ShownApproval))


def preview_edit(approval_id: str, args: JsonObject) -> Call[EditPreview]:
    return _post(path_of("approvals", approval_id, "preview"), _one(EditPreview), {"args": args})


def decide(approval: ShownApproval, decision: Decision, key: str) -> Call[Outcome]:
    """Decide what was shown: if something else is asked by then, nothing is decided."""
    body = bound(approval, decision)
    path = path_of("approvals", approval.approval_id, "decide")
    return _keyed(path, _one(Outcome), body, key, again=Again.DECIDING)


def decide_several(
    decisions: Sequence[tuple[ShownApproval, Decision]], key: str
) -> Call[dict[str, OneOutcome]]:
    def read(body: bytes) -> dict[str, OneOutcome]:
        outcomes = _object(body)["outcomes"]
        return {id: OneOutcome.of(outcome) for id, outcome in outcomes.items()}

    body = {_shown(each).approval_id: bound(each, decision) for each, decision in decisions}
    return _keyed("/approvals/decide", read, {"decisions": body}, key, again=Again.DECIDING)


def bound(approval: ShownApproval, decision: Decision) -> JsonObject:
    """The decision about exactly what was shown."""
    if not isinstance(decision, Approve | Edit | Reject | Respond):
        raise TypeError(
            f"{decision!r} is no decision: give Approve(), Edit(args=…), Reject(message=…) or "
            "Respond(message=…)."
        )
    return {**decision_to_json(decision), "digest": _shown(approval).digest}


def _shown(approval: ShownApproval) -> ShownApproval:
    if isinstance(approval, ShownApproval):
        return approval
    raise TypeError(
        f"A decision is on an approval that was shown, not on {approval!r}: get it with "
        "approvals.get(id), show it to whoever decides, and give it here."
    )


def withdraw(approval_id: str) -> Call[ShownApproval]:
    return _post(path_of("approvals", approval_id, "withdraw"), _one(ShownApproval))


def delegate(approval_id: str, to: str | None, role: str | None) -> Call[ShownApproval]:
    path = path_of("approvals", approval_id, "delegate")
    return _post(path, _one(ShownApproval), _given({"to": to, "role": role}))


def comment(approval_id: str, text: str) -> Call[ShownApproval]:
    path = path_of("approvals", approval_id, "comment")
    return _post(path, _one(ShownApproval), {"text": text})


def link(
    approval_id: str, recipient: str, decision: str | None, expires_in: float | None
) -> Call[DecisionLink]:
    body = {"recipient": recipient, "decision": decision, "expires_in": expires_in}
    return _post(path_of("approvals", approval_id, "links"), _one(DecisionLink), _given(body))


# ── schedules and grants ──────────────────────────────────────────────────────────────────────────


def create_schedule(cron: str, message: Json, options: JsonObject) -> Call[Schedule]:
    body = run_body(message, {**options, "cron": cron})
    return _post("/schedules", _one(Schedule), body)


def preview_schedule(cron: str, timezone: str, count: int) -> Call[tuple[datetime, ...]]:
    params = params_of(cron=cron, timezone=timezone, count=count)
    return _get("/schedules/preview", _next_times, params)


def get_schedule(schedule_id: str) -> Call[Schedule]:
    return _get(path_of("schedules", schedule_id), _one(Schedule))


def list_schedules(limit: int, cursor: str | None) -> Call[Page[Schedule]]:
    params = params_of(limit=limit, cursor=cursor)
    return _get("/schedules", _page("schedules", Schedule), params)


def change_schedule(schedule_id: str, changes: JsonObject) -> Call[Schedule]:
    return _patch(path_of("schedules", schedule_id), _one(Schedule), changes)


def delete_schedule(schedule_id: str) -> Call[None]:
    return _delete(path_of("schedules", schedule_id), _nothing)


def run_schedule(schedule_id: str, key: str) -> Call[Run]:
    return _keyed(path_of("schedules", schedule_id, "run"), _one(Run), {}, key)


def give_grant(
    tool: str, bounds: Mapping[str, JsonObject], until: datetime, uses: int, scope: JsonObject
) -> Call[Grant]:
    body = {"tool": tool, "bounds": bounds, "until": until, "uses": uses, **_given(scope)}
    return _post("/grants", _one(Grant), body)


def get_grant(grant_id: str) -> Call[Grant]:
    return _get(path_of("grants", grant_id), _one(Grant))


def list_grants(limit: int, cursor: str | None) -> Call[Page[Grant]]:
    return _get("/grants", _page("grants", Grant), params_of(limit=limit, cursor=cursor))


def revoke_grant(grant_id: str) -> Call[Grant]:
    return _delete(path_of("grants", grant_id), _one(Grant))


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────


def who_am_i() -> Call[Me]:
    return _get("/me", _one(Me))


def make_key(roles: Sequence[str], fields: JsonObject) -> Call[MadeApiKey]:
    return _post("/keys", _one(MadeApiKey), {"roles": [*roles], **_given(fields)})


def list_keys(limit: int, cursor: str | None) -> Call[Page[ApiKey]]:
    return _get("/keys", _page("keys", ApiKey), params_of(limit=limit, cursor=cursor))


def revoke_key(key_id: str) -> Call[ApiKey]:
    return _delete(path_of("keys", key_id), _one(ApiKey))


def revoke_keys(person: str) -> Call[RevokedKeys]:
    params = params_of(person=person)
    return Call(method="DELETE", path="/keys", read=_one(RevokedKeys), params=params)


# ── audit, files, the server ──────────────────────────────────────────────────────────────────────


def list_audit(params: Params) -> Call[Page[AuditRecord]]:
    return _get("/audit", _page("audit", AuditRecord), params)


def audit_head() -> Call[AuditRecord | None]:
    def read(body: bytes) -> AuditRecord | None:
        head = _object(body)["head"]
        return None if head is None else AuditRecord.of(head)

    return _get("/audit/head", read)


def verify_audit(head: str | None) -> Call[AuditVerification]:
    return _get("/audit/verify", _one(AuditVerification), params_of(head=head))


def upload(data: bytes, name: str) -> Call[File]:
    headers = {"Content-Type": "application/octet-stream"}
    return Call(
        method="POST",
        path="/files",
        read=_one(File),
        params=params_of(name=name),
        body=data,
        headers=headers,
    )


def get_file(file_id: str) -> Call[File]:
    return _get(path_of("files", file_id), _one(File))


def get_content(file_id: str) -> Call[bytes]:
    return _get(path_of("files", file_id, "content"), bytes)


def delete_file(file_id: str) -> Call[None]:
    return _delete(path_of("files", file_id), _nothing)


def list_agents() -> Call[tuple[Agent, ...]]:
    return _get("/agents", _several("agents", Agent))


def health() -> Call[Health]:
    return _get("/health", _one(Health))


def ready() -> Call[Health]:
    return _get("/health/ready", _one(Health))


def list_connections(params: Params) -> Call[Page[OpenStream]]:
    return _get("/connections", _page("connections", OpenStream), params)


def broadcast(message: str, data: Json, thread_id: str | None, key: str) -> Call[Told]:
    body = _given({"message": message, "data": data, "thread_id": thread_id})
    return _keyed("/broadcast", _one(Told), body, key)
