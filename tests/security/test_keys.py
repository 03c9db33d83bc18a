"""API keys over HTTP: who may make which, that they let in and no longer, and that one that another
person knows counts as both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from assent.core.json import encode_json
from tests.support.secrets import keys_of
from tests.support.server import (
    Api,
    Server,
    asking,
    asking_as,
    expect,
    problem,
    scripted_agents,
    serving,
)
from tests.support.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with an operator and approver, an admin, and a viewer."""
    folder = tmp_path_factory.mktemp("server")
    people = {
        "ASSENT_API_KEYS": keys_of("ann", "adm", "vic"),
        "ASSENT_ROLES": "adm:admin,vic:viewer",
        "ASSENT_FAILED_KEYS": "1000/minute",
    }
    with serving(folder, scripted_agents(folder, "agent"), **people) as server:
        yield server


@pytest.fixture
async def people(server: Server) -> AsyncIterator[dict[str, Api]]:
    """The client of each of them."""
    async with asking_as(server, "ann", "adm", "vic") as people:
        yield people


async def made(api: Api, *roles: str, **body: Any) -> dict[str, Any]:
    """A new key, as the one answer that has its text shows it."""
    response = await expect(await api.http.post("/keys", json={"roles": roles, **body}), 201)
    assert response.headers["cache-control"] == "no-store"
    key: dict[str, Any] = response.json()
    return key


@asynccontextmanager
async def known_by(server: Server, key: str) -> AsyncIterator[httpx.AsyncClient]:
    async with asking(server, authorization=f"Bearer {key}") as api:
        yield api.http


async def test_a_key_lets_in_with_its_own_roles_until_it_is_revoked(
    server: Server, people: dict[str, Api]
) -> None:
    key = await made(people["ann"], "viewer", note="a screen")

    async with known_by(server, key["key"]) as http:
        me = (await expect(await http.get("/me"), 200)).json()
        assert (me["name"], me["roles"], me["rights"]) == (
            "ann",
            ["viewer"],
            ["read", "see", "self"],
        )
        await problem(await http.post("/agent/runs", json={"message": "hi"}), 403)
        # Whoever is known by it finds it in their list, and when it was used.
        listed = (await http.get("/keys")).json()["keys"]
        (found,) = [each for each in listed if each["key_id"] == key["key_id"]]
        assert found["last_used_at"] is not None
        assert not any("key" in each or "mac" in each or "proof" in each for each in listed)

        revoked = (await people["ann"].http.delete(f"/keys/{key['key_id']}")).json()
        assert revoked["revoked_at"] is not None
        await problem(await http.get("/me"), 401)


async def test_a_key_that_a_request_has_made_gives_none_of_the_roles_that_its_person_has(
    server: Server, people: dict[str, Api]
) -> None:
    key = await made(people["adm"], "viewer")

    async with known_by(server, key["key"]) as http:
        assert (await http.get("/me")).json()["roles"] == ["viewer"]


async def test_a_request_that_is_sent_to_its_end_once_the_key_was_revoked_does_nothing(
    server: Server, people: dict[str, Api]
) -> None:
    ann = people["ann"]
    (approval,) = await ann.paused("pay 4")
    for path, body in (
        (f"/approvals/{approval['approval_id']}/decide", {"type": "approve"}),
        ("/keys", {"roles": ["approver"]}),
        ("/files", "a file"),
    ):
        key = await made(ann, "operator", "approver")

        async def is_used(id: str = key["key_id"]) -> bool:
            listed = (await ann.get("/keys"))["keys"]
            return any(each["key_id"] == id and each["last_used_at"] for each in listed)

        async def late(
            body: bytes = encode_json(body), id: str = key["key_id"]
        ) -> AsyncIterator[bytes]:
            yield body[:-1]
            await until(is_used)
            await expect(await ann.http.delete(f"/keys/{id}"), 200)
            yield body[-1:]

        async with known_by(server, key["key"]) as http:
            json = {"content-type": "application/json"}
            await problem(await http.post(path, content=late(), headers=json), 401)
    assert server.traces() == []


async def test_x_api_key_does_as_well(server: Server, people: dict[str, Api]) -> None:
    key = await made(people["ann"], "viewer")

    async with asking(server, **{"x-api-key": key["key"]}) as api:
        assert (await api.get("/me"))["authentication"] == "api_key"


async def test_a_key_lets_in_after_a_restart_and_none_is_there_that_was_revoked(
    server: Server, people: dict[str, Api]
) -> None:
    good, gone = [await made(people["ann"], "viewer") for _ in range(2)]
    await expect(await people["ann"].http.delete(f"/keys/{gone['key_id']}"), 200)

    server.restart()

    async with known_by(server, good["key"]) as http:
        await expect(await http.get("/me"), 200)
    async with known_by(server, gone["key"]) as http:
        await problem(await http.get("/me"), 401)


@pytest.mark.parametrize(
    ("who", "roles", "status"),
    [
        ("ann", ["operator"], 201),
        ("ann", ["approver:tool:pay"], 201),
        ("ann", ["admin"], 403),
        ("ann", ["auditor", "operator"], 403),
        # It would give a role of policies that she does not have.
        ("ann", ["approver:role:lead"], 403),
        ("ann", ["operator", "lead"], 403),
        ("vic", ["viewer"], 201),
        ("vic", ["operator"], 403),
        ("vic", ["approver"], 403),
        ("adm", ["admin"], 201),
        ("adm", ["operator"], 403),
        ("adm", ["approver"], 403),
        # Without a role of ours it would get those of whoever has none.
        ("vic", ["lead"], 422),
        ("vic", [], 422),
    ],
)
async def test_a_key_for_oneself_has_no_more_than_one_has(
    people: dict[str, Api], who: str, roles: list[str], status: int
) -> None:
    response = await people[who].http.post("/keys", json={"roles": roles})

    await expect(response, status)


@pytest.mark.parametrize(
    ("who", "roles", "status"),
    [
        ("adm", ["operator", "lead"], 201),
        ("adm", ["approver"], 403),
        ("adm", ["approver:tool:pay"], 403),
        ("adm", ["operator", "approver:role:lead"], 403),
        ("ann", ["viewer"], 403),
        ("vic", ["viewer"], 403),
    ],
)
async def test_an_admin_makes_keys_for_others_and_no_approvers(
    people: dict[str, Api], who: str, roles: list[str], status: int
) -> None:
    response = await people[who].http.post("/keys", json={"roles": roles, "person": "cleo"})

    await expect(response, status)


async def test_whoever_made_a_key_for_another_knows_what_is_made_with_it(
    server: Server, people: dict[str, Api]
) -> None:
    key = await made(people["adm"], "operator", person="dora")
    assert key["made_by"] == "adm"

    async with known_by(server, key["key"]) as http:
        # A key that is made by this one is known by whoever knows this one.
        inherited = (await http.post("/keys", json={"roles": ["operator"]})).json()
        assert (inherited["person"], inherited["made_by"]) == ("dora", "adm")
        # With four eyes, what is asked by it was asked by both.
        begun = await http.post("/agent/runs", json={"message": "hi"})
        run = await http.get(f"/runs/{(await expect(begun, 202)).json()['run_id']}")
        assert run.json()["requested_by"] == ["dora", "adm"]


async def test_a_key_that_another_knows_makes_none_for_others(
    server: Server, people: dict[str, Api]
) -> None:
    key = await made(people["adm"], "admin", person="ed")

    async with known_by(server, key["key"]) as http:
        response = await http.post("/keys", json={"roles": ["viewer"], "person": "fay"})
        assert "who knows it" in (await problem(response, 403))["detail"]


async def test_nobody_sees_or_revokes_a_key_of_another(people: dict[str, Api]) -> None:
    key = await made(people["ann"], "viewer")
    path = f"/keys/{key['key_id']}"

    unseen = await problem(await people["vic"].http.delete(path), 404)
    missing = await problem(await people["vic"].http.delete("/keys/0000000000"), 404)

    assert unseen["detail"].replace(key["key_id"], "0000000000") == missing["detail"]
    listed = (await people["vic"].get("/keys"))["keys"]
    assert {each["person"] for each in listed} <= {"vic"}
    await problem(await people["vic"].http.delete("/keys", params={"person": "ann"}), 403)
    admins = (await people["adm"].get("/keys", limit=1000))["keys"]
    assert key["key_id"] in {each["key_id"] for each in admins}


async def test_everything_of_a_person_is_revoked_at_once(
    server: Server, people: dict[str, Api]
) -> None:
    keys = [await made(people["adm"], "operator", person="gil") for _ in range(2)]
    async with known_by(server, keys[0]["key"]) as http:
        await expect(await http.get("/me"), 200)

    done = (await people["adm"].http.delete("/keys", params={"person": "gil"})).json()

    assert {each["key_id"] for each in done["keys"]} == {each["key_id"] for each in keys}
    for key in keys:
        async with known_by(server, key["key"]) as http:
            await problem(await http.get("/me"), 401)


async def test_a_key_that_ends_makes_none_that_lasts_longer(
    server: Server, people: dict[str, Api]
) -> None:
    key = await made(people["ann"], "viewer", expires_at="2100-01-01T00:00:00Z")
    async with known_by(server, key["key"]) as http:
        for asked in (None, "2200-01-01T00:00:00Z"):
            longer = await http.post("/keys", json={"roles": ["viewer"], "expires_at": asked})
            assert longer.json()["expires_at"] == "2100-01-01T00:00:00Z"

        began = await http.post(
            "/session", json={"key": key["key"]}, headers={"origin": server.url}
        )
        http.headers.pop("authorization")
        http.headers["origin"] = server.url
        assert began.cookies
        longer = await expect(await http.post("/keys", json={"roles": ["viewer"]}), 201)
        assert longer.json()["expires_at"] == "2100-01-01T00:00:00Z"

    past = await people["ann"].http.post(
        "/keys", json={"roles": ["viewer"], "expires_at": "2020-01-01T00:00:00Z"}
    )
    await problem(past, 422)


@pytest.mark.parametrize("body", [{"tenant": "other"}, {"made_by": ""}, {"key_id": "a" * 10}])
async def test_a_request_says_nothing_else_of_a_key(people: dict[str, Api], body: Any) -> None:
    await problem(await people["adm"].http.post("/keys", json={"roles": ["admin"], **body}), 422)


async def test_without_keys_there_is_nothing_to_make_and_everybody_may_do_all(
    tmp_path: Any,
) -> None:
    with serving(tmp_path) as server:
        async with asking(server) as api:
            await problem(await api.http.post("/keys", json={"roles": ["viewer"]}), 409)
            await problem(await api.http.get("/keys"), 409)
            await problem(await api.http.post("/session", json={"key": "whatever"}), 409)
            me = await api.get("/me")
            assert (me["name"], me["authentication"], me["approves"]["everything"]) == (
                "local",
                "local",
                True,
            )
            assert len(me["rights"]) == 10
    assert not (tmp_path / "assent.db.key-pepper").exists()
