"""Files in messages: the provider is sent them, over a kill too, and nothing else holds their
bytes."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from assent.cli.app import app
from tests.support.openai_server import Call, OpenAIServer, Reply, Say
from tests.support.server import Api, Server, asking, expect, problem, serving

AGENT = Path(__file__).parents[1] / "support" / "seeing_agent.py"

PNG = b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(2 << 20)
SMALL = b"\x89PNG\r\n\x1a\n" + random.Random(2).randbytes(500 << 10)
PDF = b"%PDF-1.7 " + random.Random(3).randbytes(10_000)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(mime_type: str, data: bytes) -> str:
    return f"data:{mime_type};base64,{b64(data)}"


@asynccontextmanager
async def seeing(folder: Path, *replies: Reply) -> AsyncIterator[tuple[Server, Api, OpenAIServer]]:
    """A server whose agent's model gives these replies."""
    async with OpenAIServer(*replies) as provider:
        with serving(folder, f"{AGENT}:agent", PROVIDER=provider.url) as server:
            async with asking(server) as api:
                yield server, api, provider


async def uploaded(api: Api, data: bytes, name: str) -> str:
    sent = await api.http.post("/files", content=data, params={"name": name})
    return str((await expect(sent, 201)).json()["file_id"])


def stored(server: Server) -> bytes:
    """All that the database holds, beside the files."""
    return b"".join(
        file.read_bytes() for file in server.folder.glob("assent.db*") if file.is_file()
    )


def pages(server: Server) -> int:
    ((count,),) = server.sql("PRAGMA page_count")
    return int(count)


def seen(request: Mapping[str, Any]) -> list[Any]:
    """The content of the first message of a person in a request to the provider."""
    return next(each["content"] for each in request["messages"] if each["role"] == "user")  # type: ignore[no-any-return]


async def test_the_provider_gets_files_and_nothing_else_keeps_their_bytes(tmp_path: Path) -> None:
    replies = Call(("pay", {"amount": 5})), Say("Paid.")
    async with seeing(tmp_path, *replies) as (server, api, provider):
        before = pages(server)
        photo = await uploaded(api, PNG, "photo.png")
        blocks = [
            {"type": "text", "text": "Pay what this says."},
            {"type": "image", "file_id": photo},
            {"type": "image_url", "image_url": {"url": data_url("image/png", SMALL)}},
            {
                "type": "file",
                "base64": b64(PDF),
                "mime_type": "application/pdf",
                "filename": "bill.pdf",
            },
        ]
        await api.paused(blocks, thread_id="t")  # type: ignore[arg-type]
        server.restart()
        await api.decided("t", type="approve")
        assert await api.last_words("t") == "Paid."

        assert len(provider.requests) == 2
        for request in provider.requests:
            text, image, small, pdf = seen(request)
            assert text == blocks[0]
            assert image["image_url"]["url"] == data_url("image/png", PNG)
            assert small["image_url"]["url"] == data_url("image/png", SMALL)
            assert pdf["file"] == {
                "filename": "bill.pdf",
                "file_data": data_url("application/pdf", PDF),
            }

        told = json.dumps(await api.get("/threads/t/state")) + json.dumps(await api.events("t"))
        kept = stored(server)
        for data in (PNG, SMALL, PDF):
            assert data[1000:1100] not in kept
            assert b64(data)[1000:1100].encode() not in kept
            assert b64(data)[1000:1100] not in told
        assert (pages(server) - before) * 4096 < 300_000


async def test_a_file_is_kept_as_long_as_a_thread_refers_to_it(tmp_path: Path) -> None:
    async with seeing(tmp_path, Say("I see."), Say("Still.")) as (_, api, _):
        photo = await uploaded(api, PNG, "photo.png")
        message: Any = [{"type": "image", "file_id": photo}]
        await api.stream(message, thread_id="t")
        forked = await api.http.post("/threads/t/fork", json={})
        copy = (await expect(forked, 201)).json()["thread_id"]
        for thread in ("t", copy):
            found = await problem(await api.http.delete(f"/files/{photo}"), 409)
            assert "A thread refers to" in found["detail"]
            await expect(await api.http.delete(f"/threads/{thread}"), 204)
        await expect(await api.http.delete(f"/files/{photo}"), 204)


async def test_a_thread_goes_on_without_a_file_that_is_gone(tmp_path: Path) -> None:
    async with seeing(tmp_path, Say("I see."), Say("It is gone.")) as (server, api, provider):
        photo = await uploaded(api, PNG, "photo.png")
        message: Any = [{"type": "image", "file_id": photo}]
        await api.stream(message, thread_id="t")
        server.kill()
        for file in server.folder.glob(f"assent.db.files/*/{photo}"):
            file.unlink()
        server.start()
        await api.stream("And now?", thread_id="t")
        (block,) = seen(provider.requests[1])
        assert block["text"] == "[The file 'photo.png' is not there any more.]"


async def test_a_terminal_sends_files(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(SMALL)
    (tmp_path / "bill.pdf").write_bytes(PDF)
    async with seeing(tmp_path, Say("I see.")) as (server, _, provider):
        files = [
            part for name in ("photo.png", "bill.pdf") for part in ("--file", str(tmp_path / name))
        ]
        command = ["chat", "--url", server.url, *files, "Look."]
        result = await asyncio.to_thread(CliRunner().invoke, app, command)
        assert result.exit_code == 0, result.output
        text, image, pdf = seen(provider.requests[0])
        assert text["text"] == "Look."
        assert image["image_url"]["url"] == data_url("image/png", SMALL)
        assert pdf["file"]["filename"] == "bill.pdf"


async def test_a_request_again_stores_no_file_again(tmp_path: Path) -> None:
    async with seeing(tmp_path, Say("I see.")) as (server, api, _):
        block = {"type": "image", "base64": b64(SMALL), "mime_type": "image/png"}
        body = {"message": [block], "thread_id": "t"}
        for _ in range(2):
            headers = {"Idempotency-Key": "once"}
            answer = await api.http.post("/agent/invoke", json=body, headers=headers)
            await expect(answer, 200)
        assert server.sql("SELECT count(*) FROM files") == [(1,)]


async def test_files_in_the_graphs_own_input_are_put_aside_too(tmp_path: Path) -> None:
    async with seeing(tmp_path, Say("I see.")) as (server, api, provider):
        content = [{"type": "image", "base64": b64(SMALL), "mime_type": "image/png"}]
        given = {"messages": [{"role": "user", "content": content}]}
        answer = await api.http.post("/agent/invoke", json={"input": given})
        await expect(answer, 200)
        (block,) = seen(provider.requests[0])
        assert block["image_url"]["url"] == data_url("image/png", SMALL)
        assert b64(SMALL)[1000:1100].encode() not in stored(server)


async def test_files_in_a_state_that_is_written_are_put_aside_too(tmp_path: Path) -> None:
    async with seeing(tmp_path, Say("I see."), Say("A photo.")) as (server, api, provider):
        await api.stream("Hello.", thread_id="t")
        content = [{"type": "image", "base64": b64(SMALL), "mime_type": "image/png"}]
        values = {"messages": [{"role": "user", "content": content}]}
        answer = await api.http.post("/threads/t/state", json={"values": values})
        await expect(answer, 200)
        await api.stream("What is it?", thread_id="t")
        sent = [each["content"] for each in provider.requests[1]["messages"]]
        assert data_url("image/png", SMALL) in json.dumps(sent)
        assert b64(SMALL)[1000:1100].encode() not in stored(server)
        assert server.sql("SELECT thread_id FROM file_uses") == [("t",)]


async def test_what_is_no_file_is_refused_and_named(tmp_path: Path) -> None:
    async with seeing(tmp_path) as (server, api, provider):
        for block, sentence in (
            ({"type": "image", "file_id": "upload_0"}, "There is no upload 'upload_0'"),
            ({"type": "image", "base64": "%%%"}, "its 'base64' is not base64"),
            ({"type": "image", "url": "data:x"}, "its 'url' is not data:"),
            (
                {"type": "image", "url": "https://a.example/b", "file_id": "upload_0"},
                "exactly one of 'url', 'base64' and 'file_id'",
            ),
        ):
            answer = await api.http.post("/agent/invoke", json={"message": [block]})
            assert sentence in (await problem(answer, 422))["detail"]
        assert server.sql("SELECT count(*) FROM runs") == [(0,)]
        assert provider.requests == []

        schedule = {"cron": "0 9 * * *", "message": [{"type": "image", "file_id": "upload_0"}]}
        refused = await problem(await api.http.post("/schedules", json=schedule), 422)
        assert "A schedule takes no uploads" in refused["detail"]
