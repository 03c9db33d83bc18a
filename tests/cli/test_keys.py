"""`assent keys`, in the file of a server that is stopped and over HTTP; and a server that has ever
had a key, which is open to nobody else."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from assent.cli.app import app
from assent.cli.listening import OpenToAll, bind
from assent.config.settings import Settings
from assent.core.keys import key_id_in
from tests.support.audit import AUDIT_KEY
from tests.support.keys import KEY
from tests.support.server import Server, serving


def keys(folder: Path, *arguments: str, code: int = 0, **variables: str) -> Result:
    """Run `assent keys` in this process."""
    environment = {"ASSENT_DATABASE": f"sqlite:///{folder / 'assent.db'}", **variables}
    runner = CliRunner(
        env={name: None for name in os.environ if name.startswith("ASSENT_")} | environment
    )
    ended = runner.invoke(app, ["keys", *arguments])
    assert ended.exit_code == code, ended.output
    return ended


def made(folder: Path, *arguments: str, **variables: str) -> str:
    """The text of a new key, which is all that is written to standard output."""
    key = keys(folder, "create", *arguments, **variables).stdout.strip()
    assert key_id_in(key) is not None
    return key


def listed(folder: Path, **variables: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(keys(folder, "list", "--json", **variables).stdout)
    return found


def status(server: Server, key: str, path: str = "/me") -> int:
    head = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{server.url}{path}", headers=head, trust_env=False).status_code


def test_a_first_key_closes_the_server_and_the_last_one_that_is_revoked_does_not_open_it(
    tmp_path: Path,
) -> None:
    key = made(tmp_path, "ann", "--role", "operator", "--note", "laptop")

    with serving(tmp_path) as server:
        assert httpx.get(f"{server.url}/threads", trust_env=False).status_code == 401
        assert status(server, key) == 200
        assert key not in server.output
        refused = keys(tmp_path, "list", code=1)
        assert "--url" in refused.stderr

    assert "Revoked the key" in keys(tmp_path, "revoke", key.split("_")[1]).stderr
    with serving(tmp_path) as server:
        assert status(server, key) == 401
        assert httpx.get(f"{server.url}/threads", trust_env=False).status_code == 401


def test_a_server_that_has_ever_had_a_key_may_be_reached_from_elsewhere(tmp_path: Path) -> None:
    settings = Settings.given({"database": f"sqlite:///{tmp_path / 'assent.db'}"})
    with pytest.raises(OpenToAll):
        bind("0.0.0.0", 0, settings)

    key = made(tmp_path, "ann")

    bind("0.0.0.0", 0, settings).close()
    keys(tmp_path, "revoke", key.split("_")[1])
    bind("0.0.0.0", 0, settings).close()


def test_what_a_key_was_made_with_is_listed_and_its_text_is_not(tmp_path: Path) -> None:
    roles = ("--role", "operator", "--role", "approver:tool:pay")
    key = made(tmp_path, "ann", *roles, "--expires", "90d", "--tenant", "acme", "--note", "laptop")

    (row,) = listed(tmp_path)

    assert (row["person"], row["tenant"], row["note"]) == ("ann", "acme", "laptop")
    assert row["roles"] == ["approver:tool:pay", "operator"]
    assert row["made_by"] == "" and row["expires_at"] is not None
    assert row["expires_at"][:10] in keys(tmp_path, "list", COLUMNS="80", TZ="UTC").stdout
    table = keys(tmp_path, "list", COLUMNS="200").stdout
    assert "ann (acme)" in table and "this machine" in table
    assert not re.search("ask_", table + json.dumps(row))
    assert key_id_in(key) == row["key_id"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("create",), 2),
        (("create", "local"), 2),
        (("create", "ann", "--role", "approver:toll:pay"), 2),
        (("create", "ann", "--role", "viwer"), 2),
        (("create", "ann", "--expires", "soon"), 2),
        (("create", "ann", "--url", "http://127.0.0.1:9"), 2),
        (("create", "ann", "--tenant", "a/b"), 2),
        (("list",), 2),
        (("revoke",), 2),
        (("revoke", "x", "--person", "ann"), 2),
        (("revoke", "x"), 2),
    ],
)
def test_what_makes_no_sense_leaves_no_file_behind(
    tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    keys(tmp_path, *arguments, code=code)

    assert [*tmp_path.iterdir()] == []


def test_a_key_that_there_is_not_is_told(tmp_path: Path) -> None:
    made(tmp_path, "ann")

    assert "no key 'nope'" in keys(tmp_path, "revoke", "nope", code=1).stderr
    misspelt = keys(tmp_path, "revoke", "--person", "anne", code=1).stderr
    assert "'anne' has no key here" in misspelt


def test_all_keys_of_a_person_are_revoked_at_once(tmp_path: Path) -> None:
    for name in ("ann", "ann", "bob"):
        made(tmp_path, name)

    told = keys(tmp_path, "revoke", "--person", "ann").stderr

    assert "Revoked 2 key(s) of 'ann'" in told
    assert {row["person"] for row in listed(tmp_path) if row["revoked_at"] is None} == {"bob"}


def test_keys_of_an_encrypted_file_take_its_keys(tmp_path: Path) -> None:
    secrets = {"ASSENT_ENCRYPTION_KEY": KEY, "ASSENT_AUDIT_KEY": AUDIT_KEY}
    made(tmp_path, "ann", "--note", "a laptop", **secrets)

    assert [row["note"] for row in listed(tmp_path, **secrets)] == ["a laptop"]
    assert "a laptop" not in (tmp_path / "assent.db").read_text("latin-1")
    keys(tmp_path, "list", code=1)


def test_without_the_pepper_no_key_works_any_more(tmp_path: Path) -> None:
    key = made(tmp_path, "ann", "--role", "operator")
    pepper = tmp_path / "assent.db.key-pepper"
    kept = pepper.read_bytes()
    pepper.unlink()
    with serving(tmp_path) as server:
        assert status(server, key) == 401
        assert re.search(r"keys were made with another pepper .* count=1 ", server.output)
    pepper.write_bytes(kept)
    with serving(tmp_path) as server:
        assert status(server, key) == 200
        assert server.output.count("with another pepper") == 1, "of the last start"


def test_keys_are_made_listed_and_revoked_over_http(tmp_path: Path) -> None:
    admin = made(tmp_path, "adm", "--role", "admin")
    with serving(tmp_path) as server:
        options = ("--url", server.url)
        secret = {"ASSENT_API_KEY": admin}
        key = keys(tmp_path, "create", "ann", "--role", "viewer", *options, **secret).stdout.strip()
        assert status(server, key) == 200

        rows = json.loads(keys(tmp_path, "list", "--json", *options, **secret).stdout)
        assert {(row["person"], row["made_by"]) for row in rows} == {("adm", ""), ("ann", "adm")}

        keys(tmp_path, "create", "bob", "--role", "approver", *options, code=1, **secret)
        keys(tmp_path, "create", "bob", "--tenant", "acme", *options, code=2, **secret)
        keys(tmp_path, "revoke", key.split("_")[1], *options, **secret)
        assert status(server, key) == 401
        other = keys(tmp_path, "create", "ann", "--role", "viewer", *options, **secret).stdout
        keys(tmp_path, "revoke", "--person", "ann", *options, **secret)
        assert status(server, other.strip()) == 401
        keys(tmp_path, "list", *options, code=1, ASSENT_API_KEY="wrong-secret")
