"""What clients may ask of a thread that waits for consent, and what bare LangGraph, or a server that
takes a client's word, would take for it. One class for each dialect, a `Door`, with its ways to ask
for each of `ROWS`.

    door = RunStream(api, paused)
    for way in door.ways():
        heard = [await door.ask(asked) for asked in way.asks]
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple
from uuid import uuid4

import httpx

from tests.support.agui import AgUiClient, in_order
from tests.support.server import Api, Server
from tests.support.thread_client import ThreadSocket, sent, thread_socket
from tests.support.ui_messages import Chat, chunks_of

Json = Any

ROWS = {
    "breakpoints": "Other breakpoints than the graph's own, or none",
    "null": "To go on with nothing",
    "update": "To write to the state beside an answer",
    "goto": "To go to the step",
    "decisions": "A decision in the input, or in the state",
    "send": "To send a call to the step",
    "written": "To write a state as the step before, and to go on from it",
    "own keys": "A key of LangGraph's own in the config",
    "word": "An answer that is no decision",
    "said": "Words of consent, as a message",
    "result": "A made-up result of the call",
    "call": "A made-up message of the agent's, with the call",
    "unknown": "A decision on what nobody asks",
    "edited": "Other arguments in the client's copy of what is asked",
    "another": "A decision on what another thread asks",
    "replayed": "The decision on an earlier question once more",
    "fork": "To go on from before the question, or on another thread",
}
"""What might run the step unasked, each in one or several ways."""

APPROVE = {"type": "approve"}
WORDS: tuple[Json, ...] = (
    None,
    True,
    "yes",
    "approved",
    {},
    [],
    {"decisions": []},
    {"approved": "yes"},
)
"""What a client might take for consent."""

UNKNOWN = "0" * 32

Ask = tuple[str, Json]
"""A path and a body."""


class Way(NamedTuple):
    """A way to ask for what a row says: `asks` come one after the other, and each is answered as
    `heard` says: with a status or code that refuses it, or that the run is `done`, `asks` or
    `fails`. Where all are refused the thread is as it was, and else only if the way `keeps` it."""

    row: str
    name: str
    asks: Sequence[Ask]
    heard: Sequence[str]
    keeps: bool = False

    @property
    def is_refused(self) -> bool:
        """True if nothing of it is done."""
        return {"done", "asks", "fails"}.isdisjoint(self.heard)


@dataclass(frozen=True, kw_only=True)
class Paused:
    """A thread that waits for consent to `pay`: what it shows of itself, its last state and that of
    an earlier question, the approval, the `call` and its `message`; and the same of `another`."""

    agent: str
    amount: int
    view: dict[str, Json]
    earlier: dict[str, Json]
    head: dict[str, Json]
    another: Paused | None = None

    @property
    def thread(self) -> str:
        return str(self.view["thread_id"])

    @property
    def approval(self) -> dict[str, Json]:
        (approval,) = self.view["approvals"]
        return dict(approval)

    @property
    def interrupt_id(self) -> str:
        ((interrupt,),) = self.view["interrupts"].values()
        return str(interrupt["id"])

    @property
    def call(self) -> dict[str, Json]:
        return dict(self.message["tool_calls"][0])

    @property
    def message(self) -> dict[str, Json]:
        return dict(self.view["values"]["messages"][-1])

    @property
    def is_ours(self) -> bool:
        """True for an agent with a gate, and not a graph of somebody else's."""
        return self.agent == "agent"

    @property
    def before(self) -> str:
        """The step before the one that needs consent."""
        return NODES[self.agent][0]

    @property
    def gated(self) -> str:
        """The step that needs consent."""
        return NODES[self.agent][1]

    @property
    def other(self) -> Paused:
        assert self.another is not None
        return self.another


NODES = {"agent": ("agent", "tools"), "foreign": ("think", "tools")}


@dataclass
class Door:
    """A dialect."""

    api: Api
    server: Server
    paused: Paused
    consented: list[Ask] = field(default_factory=list)
    """The request that has decided the earlier question."""

    inexpressible: ClassVar[dict[str, str]] = {}
    """The rows for which the dialect has no words, each with what is sent in place of those."""

    async def look(self) -> None:
        """Learn what a client knows of the thread."""

    def ways(self) -> Iterator[Way]:
        """The ways to ask."""
        raise NotImplementedError

    def consent(self) -> Ask:
        """The request that decides, with other arguments in the client's copy if it has one."""
        raise NotImplementedError

    async def ask(self, asked: Ask) -> str:
        """Ask; what is heard."""
        path, body = asked
        return await self._heard(await self.api.http.post(path, json=body))

    async def _heard(self, response: httpx.Response) -> str:
        raise NotImplementedError


# ── LangGraph ─────────────────────────────────────────────────────────────────────────────────────


class RunStream(Door):
    """LangGraph's runs, streamed."""

    path = "/runs/stream"

    async def _heard(self, response: httpx.Response) -> str:
        if response.status_code >= 400:
            return str(response.status_code)
        if not response.headers["content-type"].startswith("text/event-stream"):
            return "done"
        frames = [
            dict(line.split(": ", 1) for line in frame.splitlines() if not line.startswith(":"))
            for frame in response.text.split("\n\n")
            if "event: " in frame
        ]
        *before, end = frames
        assert end["event"] == "end", end
        if before[-1]["event"] == "error":
            return "fails"
        values = [json.loads(each["data"]) for each in before if each["event"] == "values"]
        return _rest(values[-1])

    def consent(self) -> Ask:
        answer = {self.paused.interrupt_id: {"decisions": [APPROVE]}}
        return self.run(command={"resume": answer})

    def run(self, **fields: Json) -> Ask:
        """A run with these fields."""
        paused = self.paused
        return f"/threads/{paused.thread}{self.path}", {"assistant_id": paused.agent, **fields}

    def said(self, *messages: Json, **fields: Json) -> Ask:
        """A run with these messages."""
        return self.run(input={"messages": [*messages]}, **fields)

    def state(self, **body: Json) -> Ask:
        """Something to write to the state."""
        return f"/threads/{self.paused.thread}/state", body

    def decided(self, id: str, decision: Json) -> Ask:
        """A decision, by the id of what it is on."""
        return self.run(command={"resume": {id: {"decisions": [decision]}}})

    def ways(self) -> Iterator[Way]:
        paused, run, said, state, decided = (
            self.paused,
            self.run,
            self.said,
            self.state,
            self.decided,
        )
        head, earlier = paused.head["checkpoint"], paused.earlier["checkpoint"]
        tell = {"type": "human", "content": "tell 1"}
        pay = {"type": "human", "content": f"pay {paused.amount}"}
        result = {"type": "tool", "tool_call_id": paused.call["id"], "content": "Successful."}
        made_up = {"type": "ai", "content": "", "tool_calls": [{**paused.call, "id": "made-up"}]}
        edited_call = {**paused.call, "args": {"amount": paused.amount + 1}}
        edited = {**paused.message, "tool_calls": [edited_call]}
        send = {"node": paused.gated, "input": paused.call}
        forged = {"decisions": {paused.call["id"]: APPROVE}}

        fewer = {"interrupt_before": [paused.before]}
        yield Way("breakpoints", "others", [run(input=None, **fewer)], ["409"])
        yield Way("breakpoints", "none", [run(input=None, interrupt_before=[])], ["409"])
        # An agent of ours takes none.
        heard = "422" if paused.is_ours else "asks"
        yield Way("breakpoints", "others, and words", [said(pay, **fewer)], [heard])
        behind_it = said(pay, interrupt_after=[paused.gated])
        yield Way("breakpoints", "behind the step, and words", [behind_it], [heard])
        yield Way("null", "no input", [run()], ["409"])
        yield Way("null", "null", [run(input=None)], ["409"])
        yield Way("null", "at the head", [run(input=None, checkpoint=head)], ["409"])
        at_head = {"configurable": {"checkpoint_id": head["checkpoint_id"]}}
        yield Way("null", "at the head in the config", [run(input=None, config=at_head)], ["409"])
        yield Way("update", "alone", [run(command={"update": {"messages": []}})], ["422"])
        # By itself this would decide.
        decision = {"resume": {"decisions": [APPROVE]}}
        update = {**decision, "update": {"messages": []}}
        yield Way("update", "beside a decision", [run(command=update)], ["422"])
        yield Way("update", "of decisions", [run(command={"update": forged})], ["422"])
        for name, goto in {"goto": paused.gated, "gotos": [paused.gated]}.items():
            yield Way("goto", name, [run(command={"goto": goto})], ["422"])
        moved = {**decision, "goto": paused.gated}
        yield Way("goto", "beside a decision", [run(command=moved)], ["422"])
        yield Way("send", "one", [run(command={"goto": send})], ["422"])
        yield Way("send", "several", [run(command={"goto": [send]})], ["422"])
        # It is left out, as fields are that the graph does not know.
        yield Way("decisions", "in the input", [run(input={"messages": [], **forged})], ["done"])
        yield Way("decisions", "in the state", [state(values=forged)], ["409"])
        dropped = state(values=None, as_node="__end__")
        behind = [dropped, state(values=forged, as_node=paused.before)]
        yield Way("decisions", "in the state, behind the question", behind, ["done", "422"])
        yield Way(
            "written",
            "as the step before",
            [
                dropped,
                state(values={"messages": [paused.message]}, as_node=paused.before),
                run(input=None),
                run(input=None, command={"goto": paused.gated}),
            ],
            ["done", "done", "422", "422"],
        )
        resuming = {"configurable": {"__pregel_resuming": True}}
        yield Way("own keys", "resuming", [run(input=None, config=resuming)], ["409"])
        yield Way("own keys", "resuming with words", [said(tell, config=resuming)], ["done"])
        for word in WORDS:
            yield Way("word", f"{word!r}", [run(command={"resume": word})], ["422"])
        named = {paused.interrupt_id: "yes"}
        yield Way("word", "by the id", [run(command={"resume": named})], ["422"])
        carried = {"configurable": {"__pregel_resume_map": named}}
        yield Way("word", "carried in the config", [run(input=None, config=carried)], ["422"])
        yes = {"type": "human", "content": "yes, approved"}
        yield Way("said", "words", [said(yes)], ["done"])
        yield Way("result", "and words", [said(result, tell)], ["done"])
        yield Way("result", "alone", [said(result)], ["done"])
        yield Way("call", "with the id of the call", [said(paused.message), run()], ["done", "422"])
        # Our gate asks about this call too. A model refuses one that nothing answers.
        both = ["asks", "409"] if paused.is_ours else ["fails", "422"]
        yield Way("call", "with another", [said(made_up), run()], both)
        yield Way("unknown", "an id", [decided(UNKNOWN, APPROVE)], ["404"])
        yield Way("edited", "the message", [said(edited), run()], ["done", "422"])
        digest = {**APPROVE, "digest": "0" * 64}
        ours = {paused.approval["approval_id"]: digest}
        yield Way("edited", "another digest", [run(command={"resume": ours})], ["409"])
        yield Way("another", "thread", [decided(paused.other.interrupt_id, APPROVE)], ["404"])
        other = {"decisions": {paused.other.approval["approval_id"]: APPROVE}}
        yield Way("another", "by our id", [run(command={"resume": other})], ["404"])
        yield Way("replayed", "the request", self.consented, ["409"])
        answer = run(command=decision, checkpoint=earlier)
        yield Way("replayed", "at its checkpoint", [answer], ["409"])
        yield Way("fork", "the earlier question", [run(input=None, checkpoint=earlier)], ["asks"])


class RunWait(RunStream):
    """LangGraph's runs, waited for."""

    path = "/runs/wait"

    async def _heard(self, response: httpx.Response) -> str:
        if response.status_code >= 400:
            return str(response.status_code)
        return _rest(response.json())


class BackgroundRun(RunWait):
    """LangGraph's runs in the background, and joined."""

    path = "/runs"

    async def _heard(self, response: httpx.Response) -> str:
        if response.status_code >= 400 or "run_id" not in response.json():
            return await super()._heard(response)
        return _rest(await self.api.get(f"{response.headers['location']}/join"))


def _rest(values: Json) -> str:
    """What a run has come to."""
    if "__error__" in values:
        return "fails"
    return "asks" if "__interrupt__" in values else "done"


class StatelessRun(RunStream):
    """LangGraph's runs that name no thread."""

    inexpressible: ClassVar[dict[str, str]] = {
        "goto": "it has no thread to command",
        "send": "it has no thread to command",
        "written": "it has no state before it",
        "word": "it has nothing to answer",
        "unknown": "it has nothing to answer",
        "another": "it has nothing to answer",
        "replayed": "it has nothing to answer",
        "edited": "it has nothing to answer",
    }

    def run(self, **fields: Json) -> Ask:
        """A run that nevertheless names the thread, where its clients put it."""
        thread = self.paused.thread
        config = fields.pop("config", {"configurable": {"thread_id": thread}})
        body = {"assistant_id": self.paused.agent, "thread_id": thread, "config": config}
        return "/runs/stream", {**body, **fields}

    def consent(self) -> Ask:
        return RunStream(self.api, self.server, self.paused).consent()

    def ways(self) -> Iterator[Way]:
        # On a thread that is new, what was said is all that there is.
        alone = {
            ("decisions", "in the input"): False,
            ("result", "alone"): False,
            ("call", "with the id of the call"): True,
            ("edited", "the message"): True,
        }
        for way in super().ways():
            path, body = asked = way.asks[0]
            if path != "/runs/stream":
                continue
            if "command" in body or "checkpoint" in body or body.get("input") is None:
                yield way._replace(asks=[asked], heard=["422"])
                continue
            heard = way.heard[:1]
            if (way.row, way.name) in alone:
                is_call = alone[way.row, way.name]
                heard = ["asks" if is_call and self.paused.is_ours else "fails"]
            yield way._replace(asks=[asked], heard=heard, keeps=True)
        yield Way("written", "nothing", [self.run(input=None)], ["422"])
        for _, body in self.consented:
            yield Way("replayed", "the request", [self.run(**body)], ["422"])


class Commands(RunStream):
    """The thread protocol, over HTTP."""

    inexpressible: ClassVar[dict[str, str]] = {"breakpoints": "run.start has none, and drops them"}

    refused: ClassVar[dict[str, dict[str, str]]] = {
        "run.start": {"409": "unknown_error", "422": "invalid_argument"},
        "input.respond": {
            "404": "no_such_interrupt",
            "409": "no_such_interrupt",
            "422": "invalid_argument",
        },
    }

    def ways(self) -> Iterator[Way]:
        for way in super().ways():
            heard = [
                self._code(asked, status) for asked, status in zip(way.asks, way.heard, strict=True)
            ]
            if (way.row, way.name) == ("another", "by our id"):
                # It stands under the id of an interrupt, as every answer here.
                heard = ["invalid_argument"]
            elif (way.row, way.name) == ("word", "carried in the config"):
                # To run.start it is no answer at all.
                heard = ["unknown_error"]
            if way.row != "breakpoints" or not way.name.endswith("and words"):
                yield way._replace(heard=heard)

    def _code(self, asked: Ask, status: str) -> str:
        if asked[0].endswith("/state"):
            return status
        method, _ = self._command(asked[1])
        return self.refused[method].get(status, status)

    def _command(self, body: Json) -> tuple[str, Json]:
        """The command that says what this body of a run does."""
        params = {**body}
        given, place = params.pop("command", None), params.pop("checkpoint", None)
        if place is not None:
            params["config"] = {"configurable": {"checkpoint_id": place["checkpoint_id"]}}
        if given is None:
            return "run.start", params
        params |= {name: given[name] for name in ("update", "goto") if name in given}
        if "resume" in given:
            answer = given["resume"]
            by_id = isinstance(answer, dict) and answer and all(map(_is_id, answer))
            responses = answer if by_id else {self.paused.interrupt_id: answer}
            params["responses"] = [
                {"interrupt_id": id, "namespace": [], "response": response}
                for id, response in responses.items()
            ]
        return "input.respond", params

    async def ask(self, asked: Ask) -> str:
        if asked[0].endswith("/state"):
            return await super().ask(asked)
        method, params = self._command(asked[1])
        answer = await self.send(method, **params)
        if answer["type"] == "error":
            return str(answer["error"])
        path = f"/threads/{self.paused.thread}/runs/{answer['result']['run_id']}/join"
        return _rest(await self.api.get(path))

    async def send(self, method: str, **params: Json) -> Json:
        """Send a command; what answers it."""
        return await sent(self.api.http, self.paused.thread, method, **params)


@dataclass
class SocketCommands(Commands):
    """The thread protocol, over a WebSocket."""

    socket: ThreadSocket | None = None

    async def send(self, method: str, **params: Json) -> Json:
        assert self.socket is not None
        return await self.socket.ask(method, **params)


def _is_id(key: str) -> bool:
    return len(key) == len(UNKNOWN) or key.startswith("apr_")


# ── AG-UI ─────────────────────────────────────────────────────────────────────────────────────────


class AgUi(Door):
    """AG-UI."""

    inexpressible: ClassVar[dict[str, str]] = {
        "breakpoints": "it has none: they are ignored wherever a client puts them",
        "written": "it has no words for a node, and a state is an input",
        "own keys": "its config is CopilotKit's, in forwardedProps, and ignored",
        "fork": "it has no checkpoints, and a conversation that is cut is not taken for another",
    }

    async def look(self) -> None:
        self.client = AgUiClient(self.api.http, self.paused.agent, self.paused.thread)
        await self.client.run()

    def run(self, *new: Json, **given: Json) -> Ask:
        """A run with these messages behind those that there are."""
        messages = given.pop("messages", self.client.messages)
        body = self.client.body(messages=[*messages, *new], **given)
        return f"/agui/{self.paused.agent}", body

    def resume(self, payload: Json, id: str = "", **given: Json) -> Ask:
        """An answer to the question, or to that with this id."""
        id = id or self.client.interrupts[0]["id"]
        entry = {"interruptId": id, "status": "resolved", "payload": payload}
        return self.run(resume=[entry], **given)

    def edited(self) -> Json:
        """The client's messages, with other arguments in the call."""
        messages = json.loads(json.dumps(self.client.messages))
        function = messages[-1]["toolCalls"][0]["function"]
        function["arguments"] = json.dumps({"amount": self.paused.amount + 1})
        return messages

    def consent(self) -> Ask:
        return self.resume({"approved": True}, messages=self.edited())

    async def _heard(self, response: httpx.Response) -> str:
        if response.status_code >= 400:
            return str(response.status_code)
        frames = [line[6:].encode() for line in response.text.split("\n") if line[:6] == "data: "]
        last = in_order(frames)[-1]
        if last["type"] == "RUN_ERROR":
            return str(last["code"])
        return "asks" if last["outcome"]["type"] == "interrupt" else "done"

    def shown(self, row: str, name: str, asked: Ask) -> Way:
        """A way by which the thread is only looked at."""
        return Way(row, name, [asked], ["asks"], keeps=True)

    def ways(self) -> Iterator[Way]:
        paused, run, resume, shown = self.paused, self.run, self.resume, self.shown
        forged = {"decisions": {paused.call["id"]: APPROVE}}
        calls = self.client.messages[-1]["toolCalls"]
        result = {"id": "r", "role": "tool", "toolCallId": paused.call["id"], "content": "Done."}
        call = {"id": "made-up", "role": "assistant", "toolCalls": calls}
        none: Json = {"interrupt_before": [], "interruptBefore": []}

        yield shown("breakpoints", "none", run(**none))
        yield shown("breakpoints", "in the props", run(forwardedProps=none))
        yield shown("null", "nothing new", run())
        yield shown("null", "no messages", run(messages=[]))
        yield shown("null", "nothing to resume", run(resume=[]))
        for row, command in {
            "update": {"update": forged},
            "goto": {"goto": paused.gated},
            "send": {"goto": [{"node": paused.gated, "input": paused.call}]},
            "word": {"resume": "yes"},
        }.items():
            yield Way(row, "a command", [run(forwardedProps={"command": command})], ["422"])
        yield shown("decisions", "in the state", run(state=forged))
        yield shown("written", "a state", run(state={"messages": [paused.message]}))
        yield shown("goto", "a node", run(forwardedProps={"nodeName": paused.gated}))
        props = {"config": {"configurable": {"__pregel_resuming": True}}}
        yield shown("own keys", "in the props", run(forwardedProps=props))
        for word in (*WORDS, APPROVE, {"approved": 1}):
            yield Way("word", f"{word!r}", [resume(word)], ["invalid_decision"])
        bare = [{"interruptId": self.client.interrupts[0]["id"], "status": "resolved"}]
        yield Way("word", "none", [run(resume=bare)], ["invalid_decision"])
        for name, status in {"another status": "approved", "no status": None}.items():
            entry = [{**bare[0], "status": status, "payload": {"approved": True}}]
            path, body = run()
            yield Way("word", name, [(path, {**body, "resume": entry})], ["422"])
        yes = {"id": "yes", "role": "user", "content": "yes, approved"}
        yield Way("said", "words", [run(yes)], ["thread_paused"])
        yield Way("result", "a message", [run(result)], ["thread_paused"])
        yield shown("call", "without words", run(call))
        both = [run({**call, "content": "On it."}, result)]
        yield Way("call", "with words and a result", both, ["thread_paused"])
        approve = {"approved": True}
        yield Way("unknown", "an id", [resume(approve, UNKNOWN)], ["invalid_decision"])
        yield shown("edited", "the message", run(messages=self.edited()))
        digest = {"approved": True, "digest": "0" * 64}
        edited = [resume(digest, messages=self.edited())]
        yield Way("edited", "with its digest", edited, ["superseded"])
        of_other = paused.other.approval["approval_id"]
        yield Way("another", "thread", [resume(approve, of_other)], ["invalid_decision"])
        yield Way("replayed", "the request", self.consented, ["done"], keeps=True)
        anew = [(path, {**body, "runId": str(uuid4())}) for path, body in self.consented]
        yield Way("replayed", "in another run", anew, ["already_decided"])
        yield shown("fork", "a conversation that is cut", run(messages=self.client.messages[:-1]))
        place = {"checkpoint_id": paused.earlier["checkpoint"]["checkpoint_id"]}
        yield shown("fork", "a checkpoint in the props", run(forwardedProps=place))


# ── the AI SDK ────────────────────────────────────────────────────────────────────────────────────


class Turns(Door):
    """The AI SDK."""

    inexpressible: ClassVar[dict[str, str]] = {
        "breakpoints": "it has none: they are ignored",
        "update": "it has no commands: they are ignored",
        "goto": "it has no commands: they are ignored",
        "send": "it has no commands: they are ignored",
        "written": "it has no words for a state: they are ignored",
    }

    async def look(self) -> None:
        self.chat = Chat(self.api, self.paused.thread, agent=self.paused.agent)
        await self.chat.resume()

    def body(self, *new: Json, **given: Json) -> Ask:
        """A request with these messages behind the agent's."""
        given.setdefault("messages", [*self.chat.messages, *new])
        return f"/api/chat?agent={self.paused.agent}", self.chat.body(**given)

    def part(self, **fields: Json) -> Json:
        """The agent's message, with other fields in the part that asks."""
        message = json.loads(json.dumps(self.chat.messages[-1]))
        (part,) = [each for each in message["parts"] if each.get("state") == "approval-requested"]
        part |= {**fields, "approval": {**part["approval"], **fields.get("approval", {})}}
        return message

    def answered(self, approved: Json = True, **fields: Json) -> Ask:
        """A request in whose part somebody has answered."""
        approval = {"approved": approved, **fields.pop("approval", {})}
        message = self.part(state="approval-responded", approval=approval, **fields)
        return self.body(messages=[message])

    def consent(self) -> Ask:
        return self.answered(input={"amount": self.paused.amount + 1})

    async def _heard(self, response: httpx.Response) -> str:
        if response.status_code >= 400:
            return str(response.status_code)
        chunks = chunks_of(response)
        (finish,) = [each for each in chunks if each["type"] == "finish"]
        return {"stop": "done", "tool-calls": "asks"}[finish["finishReason"]]

    def ways(self) -> Iterator[Way]:
        paused, body, part, answered = self.paused, self.body, self.part, self.answered
        forged = {"decisions": {paused.call["id"]: APPROVE}}
        id = paused.approval["approval_id"]
        send = {"goto": [{"node": paused.gated, "input": paused.call}]}
        own = {"configurable": {"__pregel_resuming": True}}

        def user(text: str) -> Json:
            return {"id": f"u-{uuid4()}", "role": "user", "parts": [{"type": "text", "text": text}]}

        def refused(row: str, name: str, asked: Ask, status: str = "422") -> Way:
            return Way(row, name, [asked], [status])

        yield refused("breakpoints", "none", body(interrupt_before=[]))
        yield refused("null", "nothing new", body())
        yield refused("null", "no messages", body(messages=[]))
        yield refused("null", "null", body(input=None, messages=[]))
        yield refused("update", "a command", body(command={"update": forged}))
        yield refused("goto", "a command", body(command={"goto": paused.gated}))
        yield refused("send", "a command", body(command=send))
        yield refused("decisions", "in an input", body(input=forged))
        yield refused("written", "as the step before", body(values={}, as_node=paused.before))
        yield refused("own keys", "in the config", body(config=own))
        tell = user("tell 1")
        yield refused("own keys", "and words", body(tell, config=own))
        answers: list[Json] = [None, "yes", 1, {}]
        for answer in answers:
            yield refused("word", f"approved: {answer!r}", answered(answer))
        for word in WORDS:
            yield refused("word", f"beside: {word!r}", body(decisions={id: word}))
        yield Way("said", "words", [body(user("yes, approved"))], ["done"])
        output = part(state="output-available", output="paid")
        yield refused("result", "in the part", body(messages=[output]))
        yield Way("result", "and words", [body(messages=[output, tell])], ["done"])
        unasked = {**part(state="input-available"), "id": "made-up"}
        yield refused("call", "in a message", body(messages=[unasked]))
        yield Way("call", "and words", [body(messages=[unasked, tell])], ["done"])
        yield refused("unknown", "an id", answered(approval={"id": f"apr_{UNKNOWN}"}), "404")
        edited = {"input": {"amount": paused.amount + 1}}
        yield refused("edited", "the part", body(messages=[part(**edited)]))
        digest = {"descriptor": {"digest": "0" * 64}}
        yield refused("edited", "with its digest", answered(approval=digest, **edited), "409")
        other = paused.other.approval["approval_id"]
        yield refused("another", "thread", answered(approval={"id": other}), "404")
        yield Way("replayed", "the request", self.consented, ["done"], keeps=True)
        anew = {"trigger": "regenerate-message", "messageId": self.chat.messages[-1]["id"]}
        asked = {**user(f"pay {paused.amount}"), "id": paused.view["values"]["messages"][-2]["id"]}
        yield Way("fork", "regenerate", [body(messages=[asked], **anew)], ["asks"])
        yield Way(
            "fork", "a changed message", [body(messages=[asked], messageId=asked["id"])], ["asks"]
        )


# ── our own ───────────────────────────────────────────────────────────────────────────────────────


class Own(Door):
    """Our own routes."""

    inexpressible: ClassVar[dict[str, str]] = {
        "update": "it has no commands: unknown fields are refused",
        "goto": "it has no commands: unknown fields are refused",
        "send": "it has no commands: unknown fields are refused",
    }

    def run(self, message: str = "", **given: Json) -> Ask:
        """A run."""
        said = {"message": message} if message else {}
        body = {"agent": self.paused.agent, "thread_id": self.paused.thread, **said, **given}
        return "/agent/stream", body

    def there(self, rest: str, body: Json) -> Ask:
        """What is sent to the thread."""
        return f"/threads/{self.paused.thread}/{rest}", body

    def decided(self, id: str, decision: Json = APPROVE) -> Ask:
        """A decision, by the id of what it is on."""
        return self.there("resume", {"decisions": {id: decision}})

    def consent(self) -> Ask:
        return self.decided(self.paused.approval["approval_id"])

    async def _heard(self, response: httpx.Response) -> str:
        if response.status_code >= 400:
            return str(response.status_code)
        if response.headers["content-type"].startswith("text/event-stream"):
            events = [
                json.loads(line[6:]) for line in response.text.split("\n") if line[:6] == "data: "
            ]
            return {"run_paused": "asks", "done": "done", "error": "fails"}[events[-2]["type"]]
        thread = await self.api.at_rest(response.json().get("thread_id", self.paused.thread))
        return {"interrupted": "asks", "idle": "done"}[thread["status"]]

    def ways(self) -> Iterator[Way]:
        paused, run, there, decided = self.paused, self.run, self.there, self.decided
        head = paused.head["checkpoint"]["checkpoint_id"]
        earlier = paused.earlier["checkpoint"]["checkpoint_id"]
        forged = {"decisions": {paused.call["id"]: APPROVE}}
        cancel = {"if_paused": "cancel"}
        result = {"type": "tool", "tool_call_id": paused.call["id"], "content": "Successful."}
        tell = {"type": "human", "content": "tell 1"}

        def refused(row: str, name: str, asked: Ask, status: str = "422") -> Way:
            return Way(row, name, [asked], [status])

        none = run(input=None, interrupt_before=[])
        yield refused("breakpoints", "none", none, "409")
        fewer = run(f"pay {paused.amount}", interrupt_after=[paused.gated], **cancel)
        heard = "422" if paused.is_ours else "asks"
        yield Way("breakpoints", "others, and words", [fewer], [heard])
        yield refused("null", "no input", run())
        yield refused("null", "null", run(input=None), "409")
        yield refused("null", "at the head", run(checkpoint_id=head), "409")
        yield refused("null", "null, in place of the question", run(input=None, **cancel))
        again = run(checkpoint_id=head, **cancel)
        yield Way("null", "at the head, in place of the question", [again], ["asks"])
        for row, command in {
            "update": {"update": forged},
            "goto": {"goto": paused.gated},
            "send": {"goto": [{"node": paused.gated, "input": paused.call}]},
        }.items():
            yield refused(row, "a command", run(input=None, command=command))
        yield refused("decisions", "in the input", run(input=forged, **cancel))
        yield refused("decisions", "in the state", there("state", {"values": forged}), "409")
        written = {"values": {"messages": [paused.message]}, "as_node": paused.before}
        yield refused("written", "as the step before", there("state", written), "409")
        own = {"configurable": {"__pregel_resuming": True}}
        yield refused("own keys", "resuming", run(input=None, config=own), "409")
        yield refused("own keys", "and words", run("tell 1", config=own, **cancel))
        for word in WORDS:
            yield refused("word", f"{word!r}", there("resume", word))
        yield refused("said", "words", run("yes, approved"), "409")
        yield Way("said", "in place of the question", [run("yes, approved", **cancel)], ["done"])
        both = run(input={"messages": [result, tell]}, **cancel)
        yield Way("result", "and words", [both], ["done"])
        made_up = {"type": "ai", "content": "", "tool_calls": [{**paused.call, "id": "made-up"}]}
        heard = "asks" if paused.is_ours else "fails"
        both = run(input={"messages": [made_up]}, **cancel)
        yield Way("call", "a message", [both], [heard])
        yield refused("unknown", "an id", decided(f"apr_{UNKNOWN}"), "404")
        digest = {**APPROVE, "digest": "0" * 64}
        id = paused.approval["approval_id"]
        yield refused("edited", "another digest", decided(id, digest), "409")
        other = paused.other.approval["approval_id"]
        yield refused("another", "thread", decided(other), "404")
        yield Way("replayed", "the request", self.consented, ["409"])
        yield Way("fork", "the earlier question", [run(checkpoint_id=earlier, **cancel)], ["asks"])
        yield Way("fork", "another thread", [there("fork", {})], ["asks"], keeps=True)
        yield Way("fork", "a copy", [there("copy", None)], ["asks"], keeps=True)
        yield Way(
            "fork", "from the head", [there("fork", {"checkpoint_id": head})], ["asks"], keeps=True
        )


BOTH = ("agent", "foreign")

DOORS: dict[str, tuple[type[Door], Sequence[str]]] = {
    "runs/stream": (RunStream, BOTH),
    "runs/wait": (RunWait, ["agent"]),
    "runs": (BackgroundRun, ["foreign"]),
    "stateless runs": (StatelessRun, ["foreign"]),
    "commands": (Commands, ["agent"]),
    "commands on a socket": (SocketCommands, ["foreign"]),
    "AG-UI": (AgUi, BOTH),
    "AI SDK": (Turns, BOTH),
    "our own": (Own, BOTH),
}
"""Each door by a name, with the agents to ask there. Those of LangGraph share what they do."""


@asynccontextmanager
async def opened(door: Door) -> AsyncIterator[Door]:
    """The door, with the socket that it asks on."""
    if not isinstance(door, SocketCommands):
        yield door
        return
    async with thread_socket(door.server.port, door.paused.thread) as door.socket:
        yield door
