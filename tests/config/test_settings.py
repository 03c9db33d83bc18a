"""Settings: read from the environment, refused with a sentence, and all in the reference."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from assent.config.settings import DIALECTS, Settings
from assent.core.errors import ConfigurationError
from tests.support.keys import KEY

REFERENCE = Path(__file__).parents[2] / "docs/reference/settings.md"


def test_the_reference_lists_every_setting() -> None:
    listed = [
        line.split("`")[1]
        for line in REFERENCE.read_text().splitlines()
        if line.startswith("| `ASSENT_")
    ]
    assert sorted(listed) == sorted(f"ASSENT_{name.upper()}" for name in Settings.model_fields)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("none", ()),
        (" progress , query", ("progress", "query")),
        ("human-input,progress,tasks,query,langgraph,vercel,agui", DIALECTS),
    ],
)
def test_dialects_are_named(
    monkeypatch: pytest.MonkeyPatch, written: str, meant: tuple[str, ...]
) -> None:
    assert Settings().dialects == DIALECTS
    monkeypatch.setenv("ASSENT_DIALECTS", written)
    assert Settings().dialects == meant
    assert Settings.given({"dialects": meant}).dialects == meant


@pytest.mark.parametrize("written", ["klingon", "progress,none", "Progress"])
def test_an_unknown_dialect_is_refused(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("ASSENT_DIALECTS", written)
    with pytest.raises(ValidationError, match="write some of human-input, progress, tasks, query"):
        Settings()
    with pytest.raises(ConfigurationError, match="'klingon' is no dialect"):
        Settings.given({"dialects": ["klingon"]})


def test_keys_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSENT_API_KEYS", "alice:secret-of-alice, bob:secret:with:colons")
    settings = Settings()
    assert settings.secrets_of_people == {"alice": "secret-of-alice", "bob": "secret:with:colons"}
    # Logs may show it: by default, structlog does with the variables of a traceback.
    for shown in (repr(settings), str(settings), settings.model_dump_json(), f"{vars(settings)}"):
        assert "alice" in shown
        assert "secret-of" not in shown and "with:colons" not in shown
    assert settings.secrets == ["secret-of-alice", "secret:with:colons"]


@pytest.mark.parametrize("keys", ["alice", "alice:short", ":nameless-secret", "alice:"])
def test_a_key_without_a_name_or_a_secret_worth_the_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, keys: str
) -> None:
    monkeypatch.setenv("ASSENT_API_KEYS", keys)
    with pytest.raises(ValidationError, match="name:secret"):
        Settings()


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("ann:same-secret,bob:same-secret", "'ann' and 'bob' have the same secret"),
        ("ann:one-secret,ann:other-secret", "it has two secrets for 'ann'"),
    ],
)
def test_a_secret_tells_one_person_from_all_others(
    monkeypatch: pytest.MonkeyPatch, keys: str, sentence: str
) -> None:
    monkeypatch.setenv("ASSENT_API_KEYS", keys)
    with pytest.raises(ValidationError, match=sentence) as refused:
        Settings()
    assert "-secret" not in str(refused.value)


@pytest.mark.parametrize("secret", ["grün-und-blau", " one-secret", "one\nsecret"])
def test_a_secret_that_no_request_can_carry_is_refused(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("ASSENT_API_KEYS", f"ann:{secret}")
    with pytest.raises(ValidationError, match="the secret of 'ann' is none that") as refused:
        Settings()
    assert secret not in str(refused.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        (" 45m ", timedelta(minutes=45)),
        ("1.5h", timedelta(minutes=90)),
        ("90s", timedelta(seconds=90)),
        ("3600", timedelta(hours=1)),
        ("P30D", timedelta(days=30)),
        ("PT36H", timedelta(hours=36)),
    ],
)
def test_a_duration_may_be_written_in_several_ways(
    monkeypatch: pytest.MonkeyPatch, written: str, meant: timedelta
) -> None:
    monkeypatch.setenv("ASSENT_EVENTS_TTL", written)
    assert Settings().events_ttl == meant


@pytest.mark.parametrize("written", ["", "0", "0d", "-5", "-1d", "30 moons", "d", "soon"])
def test_a_duration_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("ASSENT_EVENTS_TTL", written)
    with pytest.raises(ValidationError, match="events_ttl"):
        Settings()


@pytest.mark.parametrize("written", ["0.05", "61s", "1h"])
def test_a_duration_out_of_its_range_is_refused(
    monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("ASSENT_HEARTBEAT", written)
    with pytest.raises(ValidationError, match=r"write a duration from 0\.1s to 60s"):
        Settings()


def test_the_refusal_of_a_duration_says_how_to_write_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSENT_EVENTS_TTL", "soon")
    with pytest.raises(ValidationError, match=r"'soon' is no duration\. Write 90s, 15m"):
        Settings()


@pytest.mark.parametrize(
    ("url", "path"), [("sqlite:///./a.db", "a.db"), ("sqlite:////var/lib/a.db", "/var/lib/a.db")]
)
def test_the_database_is_a_file(url: str, path: str) -> None:
    assert Settings(database=url).database_path == Path(path)


@pytest.mark.parametrize("url", ["postgres://host/db", "a.db", "sqlite:///", ""])
def test_a_database_that_assent_does_not_know_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="sqlite:///"):
        Settings(database=url)


def test_types_of_a_state_are_named_by_module_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSENT_STATE_TYPES", "shop.models:Order, shop.models:Line")
    assert Settings().state_types == (("shop.models", "Order"), ("shop.models", "Line"))


@pytest.mark.parametrize("named", ["Order", "shop.models:", ":Order", "a:b:c"])
def test_what_names_no_type_is_refused(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("ASSENT_STATE_TYPES", named)
    with pytest.raises(ValidationError, match=r"package\.module:Name"):
        Settings()


def test_an_encryption_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = KEY.partition(":")[2]
    monkeypatch.setenv("ASSENT_ENCRYPTION_KEY", KEY)
    settings = Settings()
    assert settings.encryption_secret == KEY
    assert (
        secret
        not in repr(settings)
        + str(settings)
        + repr(settings.model_dump())
        + settings.model_dump_json()
    )
    monkeypatch.setenv("ASSENT_ENCRYPTION_KEY", f"two words:{secret}")
    with pytest.raises(ValidationError, match="key number 1 does not begin with an id") as raised:
        Settings()
    assert secret not in str(raised.value)


def test_without_one_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().encryption_secret is None
    # A variable that was meant to hold one, and is empty, must not switch encryption off.
    monkeypatch.setenv("ASSENT_ENCRYPTION_KEY", "")
    with pytest.raises(ValidationError, match="encryption_key"):
        Settings()


def test_the_stores_index_is_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().store_index is None
    given = '{"embed": "openai:text-embedding-3-small", "dims": 1536, "fields": ["text"]}'
    monkeypatch.setenv("ASSENT_STORE_INDEX", given)
    index = Settings().store_index
    assert index is not None
    assert (index.dims, index.fields) == (1536, ("text",))


@pytest.mark.parametrize(
    "given",
    [
        "openai",
        "[]",
        '{"dims": 4}',
        '{"embed": "a:b", "dims": 0}',
        '{"embed": "a:b", "dims": 4, "x": 1}',
    ],
)
def test_an_index_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("ASSENT_STORE_INDEX", given)
    with pytest.raises(ValidationError, match="write it as JSON"):
        Settings()


@pytest.mark.parametrize(
    ("written", "listed"),
    [
        ("none", ()),
        ("hooks.example.com, *.corp.example:8443,", ("hooks.example.com", "*.corp.example:8443")),
        ("10.1.0.0/16,apprise:slack", ("10.1.0.0/16", "apprise:slack")),
    ],
)
def test_connections_that_the_server_may_open_are_listed(
    monkeypatch: pytest.MonkeyPatch, written: str, listed: tuple[str, ...]
) -> None:
    assert Settings().egress is None
    monkeypatch.setenv("ASSENT_EGRESS", written)
    assert Settings().egress == listed


@pytest.mark.parametrize("written", ["", " ", ",", "https://hooks.example.com", "none,a.example"])
def test_a_list_of_connections_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """An empty one too: it could mean everywhere or nowhere."""
    monkeypatch.setenv("ASSENT_EGRESS", written)
    with pytest.raises(ValidationError, match="nothing that a connection could go to"):
        Settings()
