"""Uploads over HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.keys import KEY
from tests.support.server import Api, Server, asking, expect, problem, scripted_agents, serving

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
MOST = 4096


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    limits = {"ASSENT_MAX_UPLOAD_BYTES": str(MOST), "ASSENT_MAX_UPLOADS_BYTES": "20000"}
    with serving(folder, scripted_agents(folder, "agent"), **limits) as server:
        yield server


async def test_a_file_is_taken_shown_given_back_and_removed(api: Api, server: Server) -> None:
    sent = await api.http.post("/files", content=PNG, params={"name": "größe\r\n.png"})
    file = (await expect(sent, 201)).json()
    id = file["file_id"]
    assert id.startswith("upload_")
    assert sent.headers["location"] == f"/files/{id}"
    assert (file["mime_type"], file["size"]) == ("image/png", len(PNG))
    assert file["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert await api.get(f"/files/{id}") == file

    server.restart()
    content = await api.http.get(f"/files/{id}/content")
    assert content.content == PNG
    assert content.headers["content-type"] == "image/png"
    # It is never shown as a page of ours.
    assert content.headers["content-disposition"].startswith("attachment; filename*=UTF-8''gr%C3")
    assert "\n" not in content.headers["content-disposition"]
    assert content.headers["x-content-type-options"] == "nosniff"
    assert content.headers["content-security-policy"].endswith("; sandbox")

    assert (await api.http.delete(f"/files/{id}")).status_code == 204
    for response in (await api.http.get(f"/files/{id}"), await api.http.delete(f"/files/{id}")):
        assert "There is no upload" in (await problem(response, 404))["detail"]
    assert list(server.folder.glob("assent.db.files/*/*")) == []


async def test_a_file_whose_bytes_are_gone_is_not_found(api: Api, server: Server) -> None:
    sent = await expect(await api.http.post("/files", content=PNG), 201)
    id = sent.json()["file_id"]
    (file,) = server.folder.glob(f"assent.db.files/*/{id}")
    file.unlink()
    found = await problem(await api.http.get(f"/files/{id}/content"), 404)
    assert "The file is not there any more" in found["detail"]
    await expect(await api.http.delete(f"/files/{id}"), 204)


async def test_any_name_is_a_name(tmp_path: Path) -> None:
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), ASSENT_ENCRYPTION_KEY=KEY) as server:
        async with asking(server) as api:
            for name in ("", "null", '"', "größe", "a/b"):
                sent = await api.http.post("/files", content=PNG, params={"name": name})
                file = (await expect(sent, 201)).json()
                assert file["name"] == name
                assert await api.get(f"/files/{file['file_id']}") == file
                content = await api.http.get(f"/files/{file['file_id']}/content")
                assert content.content == PNG


async def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(
    api: Api, server: Server
) -> None:
    async def in_chunks() -> AsyncIterator[bytes]:
        for _ in range(2):
            yield bytes(MOST)

    for content in (bytes(MOST + 1), in_chunks()):
        found = await problem(await api.http.post("/files", content=content), 413)
        assert "4,096 bytes. Nothing was changed" in found["detail"]
    file = await expect(await api.http.post("/files", content=bytes(MOST)), 201)
    await api.http.delete(f"/files/{file.json()['file_id']}")
    assert list(server.folder.glob("assent.db.files/*/*")) == []


async def test_a_form_is_refused_with_the_right_way(api: Api) -> None:
    response = await api.http.post("/files", files={"file": b"x"})
    assert "curl --data-binary" in (await problem(response, 415))["detail"]


async def test_all_uploads_together_have_an_end(api: Api) -> None:
    ids = []
    while (response := await api.http.post("/files", content=bytes(MOST))).status_code == 201:
        ids.append(response.json()["file_id"])
    assert "has uploads of 20,000 bytes" in (await problem(response, 507))["detail"]
    # The next one would go beyond the end.
    assert len(ids) == 20_000 // MOST
    for id in ids:
        await expect(await api.http.delete(f"/files/{id}"), 204)


async def test_bytes_without_a_row_go_at_the_next_start(api: Api, server: Server) -> None:
    kept = (await expect(await api.http.post("/files", content=b"kept"), 201)).json()["file_id"]
    folder = server.folder / "assent.db.files" / "ab"
    folder.mkdir(exist_ok=True)
    (folder / "upload_ab").write_bytes(b"left by a kill before the row")
    (folder / ".upload_cd").write_bytes(b"left by a kill before the end")
    server.restart()
    assert (await api.http.get(f"/files/{kept}/content")).content == b"kept"
    assert [*folder.iterdir()] == []
