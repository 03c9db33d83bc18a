"""Secrets are left out of texts, and nothing else is."""

from __future__ import annotations

import pytest

from assent.core.redaction import redacting
from tests.support.secrets import leaks, secret_of

KEY = f"ask_{'k' * 59}"
TOKEN = f"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.{'s' * 40}"

HIDDEN = [
    (f"GET /threads/{KEY}", "GET /threads/…"),
    (f"GET /threads?token={KEY}&limit=1", "GET /threads?token=…&limit=1"),
    ("GET /threads?limit=1&token=any-words-at-all HTTP/1.1", "GET /threads?limit=1&token=… HTTP/1.1"),
    ("ticket=abcdefgh", "ticket=…"),
    ("/session/callback?code=abcdef&state=123456", "/session/callback?code=…&state=…"),
    (f"ses_{'s' * 43} tkt_{'-' * 43} lgn_{'_' * 43}", "… … …"),
    ("Authorization: Bearer a-key-of-ours", "Authorization: Bearer …"),
    ("[(b'authorization', b'Bearer a-key-of-ours'), (b'a', b'b')]", "[(b'authorization', b'Bearer …'), (b'a', b'b')]"),
    ("[(b'x-api-key', b'a-key-of-ours')]", "[(b'x-api-key', b'…')]"),
    ('{"X-Api-Key": "a-key-of-ours"}', '{"X-Api-Key": "…"}'),
    (f"the token {TOKEN}.", "the token …"),
    (f"whsec_{'c2VjcmV0' * 4} signs", "… signs"),
    (f"POST /links/0198-af.{'m' * 43}", "POST /links/0198-af.…"),
    ("Sec-WebSocket-Protocol: assent, assent.key.YS1rZXk", "Sec-WebSocket-Protocol: assent, assent.key.…"),
]  # fmt: skip

SHOWN = [
    "tool=ask_human_for_the_year tokens=1200 max_tokens=200",
    "A run ended with exit code=3, state=done.",
    "This server needs a key: send 'Authorization: Bearer <secret>'.",
    "GET /links/page.css",
    "task_0123456789abcdef0123456789abcdef",
    "Keys are made by eye.",
]


@pytest.mark.parametrize(("text", "shown"), HIDDEN)
def test_a_secret_is_left_out(text: str, shown: str) -> None:
    assert redacting()(text) == shown
    assert redacting()(shown) == shown


@pytest.mark.parametrize("text", SHOWN)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacting()(text) == text


def test_known_secrets_are_left_out_whatever_they_look_like() -> None:
    redact = redacting(["hush", "hush # (2)", ""])
    assert redact("hush # (2), hush, hus h") == "…, …, hus h"


@pytest.mark.parametrize("known", ["hush", "0198-af", "12:30"])
def test_known_secrets_are_left_out_where_they_look_like_an_id_or_a_time(known: str) -> None:
    redact = redacting([known, "OTHER"])
    for text in (known, f"0{known}0", f"{known}-{known}"):
        assert redact(text) == text.replace(known, "…")


def test_a_leak_is_found_where_the_tests_look_for_one() -> None:
    for text, _ in HIDDEN[:2]:
        assert leaks(text)
    assert leaks(f"found {TOKEN}") and leaks("Bearer of-nobody") and leaks(secret_of("ann"))
    assert leaks(" ".join([*SHOWN, *(shown for _, shown in HIDDEN)])) == []
