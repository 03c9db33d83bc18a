"""A small Slack that listens on a real port: it keeps messages, opens dialogs, and sends what people
click as Slack does, signed. It refuses what Slack refuses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import urlencode

import httpx
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View
from slack_sdk.signature import Clock, SignatureVerifier

from tests.support.secrets import secret_of
from tests.support.waiting import until

TOKEN = secret_of("slack-bot")
SIGNING = secret_of("slack-signing")
TEAM = "T0HOME"

Json = Any


@dataclass
class SmallSlack:
    """Its messages by their `ts`, the dialogs that it has opened, and what it has told only those
    who clicked. Methods in `fails` are answered with that error. Those in `silent` are done, and not
    answered until they are taken out; those in `stuck` are not even done. What is told is the method
    `respond`."""

    port: int = 0
    messages: dict[str, Json] = field(default_factory=dict)
    dialogs: list[Json] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    calls: list[tuple[str, Json]] = field(default_factory=list)
    fails: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def section(self) -> str:
        """The beginning of the section of the configuration."""
        return (
            f'[slack]\nurl = "http://127.0.0.1:{self.port}/api"\nallow_http = true\n'
            f'token = "{TOKEN}"\nsigning_secret = "{SIGNING}"\nteam = "{TEAM}"\n'
        )

    # ── what the app asks ──

    def call(self, path: str, key: str, body: Json) -> Json:
        """The answer to a request of the app's."""
        method = path.rpartition("/")[2]
        self.calls.append((method, body))
        if path.startswith("/respond/"):
            assert body["response_type"] == "ephemeral" and body["replace_original"] is False
            self.told.append(body["text"])
            self._wait_for("respond", self.silent)
            return {"ok": True}
        if key != f"Bearer {TOKEN}":
            return {"ok": False, "error": "invalid_auth"}
        if method in self.fails:
            return {"ok": False, "error": self.fails[method]}
        if method in self.stuck:
            self._wait_for(method, self.stuck)
            return {"ok": False, "error": "internal_error"}
        answer: Json = {
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "views.open": self._open,
        }[method](body)
        self._wait_for(method, self.silent)
        return answer

    def _wait_for(self, method: str, those: set[str]) -> None:
        while method in those:
            time.sleep(0.01)

    def _post(self, body: Json) -> Json:
        _check(body.get("blocks", []))
        ts = f"1700000000.{next(self.numbers):06}"
        self.messages[ts] = body
        return {"ok": True, "channel": body["channel"], "ts": ts, "message": body}

    def _update(self, body: Json) -> Json:
        if body["ts"] not in self.messages:
            return {"ok": False, "error": "message_not_found"}
        _check(body["blocks"])
        self.messages[body["ts"]] = {**self.messages[body["ts"]], **body}
        return {"ok": True, "channel": body["channel"], "ts": body["ts"]}

    def _open(self, body: Json) -> Json:
        view = body["view"]
        View(**view).validate_json()
        _check(view["blocks"])
        assert len(view["title"]["text"]) <= 24 and len(view["private_metadata"]) <= 3000
        self.dialogs.append({**view, "trigger_id": body["trigger_id"]})
        return {"ok": True, "view": view}

    # ── what people see and do ──

    def cards_of(self, approval_id: str) -> list[str]:
        """The messages that ask for this approval, or did, by their `ts`."""
        return [
            ts
            for ts, message in self.messages.copy().items()
            if f"Approval {approval_id}," in json.dumps(message.get("blocks"))
        ]

    async def card(self, approval_id: str, *words: str) -> str:
        """The only message of the approval, once it has these words."""

        def is_there() -> bool:
            cards = self.cards_of(approval_id)
            return bool(cards) and all(word in self.text(cards[0]) for word in words)

        await until(is_there)
        (ts,) = self.cards_of(approval_id)
        return ts

    def below(self, ts: str) -> list[str]:
        """What is said below a message."""
        return [
            each["text"] for each in self.messages.copy().values() if each.get("thread_ts") == ts
        ]

    def text(self, ts: str) -> str:
        """Everything that the message shows."""
        return "\n".join(_texts(self.messages[ts]["blocks"]))

    def buttons(self, ts: str) -> dict[str, Json]:
        """The buttons of a message, by the first word on them."""
        rows = [each for each in self.messages[ts]["blocks"] if each["type"] == "actions"]
        return {
            each["text"]["text"].split()[0].strip("…"): each
            for row in rows
            for each in row["elements"]
        }

    def click(
        self, ts: str, button: str, user: str, *, team: str = TEAM, old: Json = None
    ) -> dict[str, Json]:
        """What Slack sends if somebody clicks; an `old` button is one that the message had."""
        clicked = old or self.buttons(ts)[button]
        number = next(self.numbers)
        return {
            "type": "block_actions",
            "team": {"id": TEAM, "domain": "home"},
            "user": {"id": user, "name": user.lower(), "team_id": team},
            "api_app_id": "A0APP",
            "trigger_id": f"trigger.{number}",
            "response_url": f"http://127.0.0.1:{self.port}/respond/{number}",
            "container": {
                "type": "message",
                "message_ts": ts,
                "channel_id": self.messages[ts]["channel"],
            },
            "channel": {"id": self.messages[ts]["channel"]},
            "message": self.messages[ts],
            "actions": [{**clicked, "action_ts": f"{number}"}],
        }

    async def dialog(self, trigger: str) -> Json:
        """The dialog that a click has opened."""
        await until(lambda: any(each["trigger_id"] == trigger for each in self.dialogs))
        return next(each for each in self.dialogs if each["trigger_id"] == trigger)

    def submit(self, view: Json, user: str, **typed: str | None) -> dict[str, Json]:
        """What Slack sends if somebody ends a dialog."""
        values = {
            name: {"typed": {"type": "plain_text_input", "value": value}}
            for name, value in typed.items()
        }
        return {
            "type": "view_submission",
            "team": {"id": TEAM},
            "user": {"id": user, "team_id": TEAM},
            "trigger_id": f"trigger.{next(self.numbers)}",
            "view": {**view, "id": "V1", "state": {"values": values}},
        }


def signed(payload: Json, *, secret: str = SIGNING, ago: float = 0) -> tuple[bytes, dict[str, str]]:
    """The body and the headers with which Slack sends the payload."""
    body = urlencode({"payload": json.dumps(payload)}).encode()
    timestamp = str(int(time.time() - ago))
    signature = SignatureVerifier(secret, Clock()).generate_signature(
        timestamp=timestamp, body=body
    )
    return body, {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": timestamp,
        "x-slack-signature": str(signature),
    }


async def sent(http: httpx.AsyncClient, payload: Json, **options: Any) -> httpx.Response:
    """What the server answers to Slack."""
    body, headers = signed(payload, **options)
    return await http.post("/slack/actions", content=body, headers=headers)


def _check(blocks: Json) -> None:
    """Refuse blocks that Slack refuses."""
    assert len(blocks) <= 50
    for written, block in zip(blocks, Block.parse_all(blocks), strict=True):
        assert block is not None, written
        block.validate_json()
    for text in _objects(blocks):
        assert 1 <= len(text["text"]) <= 3000, text
    for block in blocks:
        assert len(block.get("fields", ())) <= 10
        for element in block.get("elements", ()):
            assert len(element.get("value", "")) <= 2000


def _objects(value: Json) -> Iterator[Json]:
    if isinstance(value, dict):
        if isinstance(value.get("text"), str):
            yield value
        for each in value.values():
            yield from _objects(each)
    elif isinstance(value, list):
        for each in value:
            yield from _objects(each)


def _texts(blocks: Json) -> Iterator[str]:
    for each in _objects(blocks):
        yield each["text"]


@contextmanager
def small_slack() -> Iterator[SmallSlack]:
    """It listens on loopback, in a thread of its own, until the context is left."""
    slack = SmallSlack()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            key = self.headers.get("Authorization", "")
            length = int(self.headers["content-length"])
            answer = slack.call(self.path, key, json.loads(self.rfile.read(length)))
            body = json.dumps(answer).encode()
            try:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                # The server was killed meanwhile.
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        slack.port = listener.server_port
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield slack
        finally:
            slack.silent.clear()
            slack.stuck.clear()
            listener.shutdown()
            thread.join()
