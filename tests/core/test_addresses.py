"""The list of where the server may open connections to, rule by rule."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from assent.core.addresses import ANYWHERE, Egress, egress_from_texts
from assent.core.errors import ConfigurationError


def allows(listed: str, host: str, *addresses: str, port: int = 443, scheme: str = "https") -> bool:
    egress = egress_from_texts(listed.split())
    return egress.allows(scheme, host, port, addresses or ("93.184.215.14",))


@pytest.mark.parametrize(
    ("listed", "host"),
    [
        ("hooks.example", "hooks.example"),
        ("hooks.example", "HOOKS.example."),
        ("Hooks.Example.", "hooks.example"),
        ("*.corp.example", "a.corp.example"),
        ("*.corp.example", "a.b.corp.example"),
        ("other.example hooks.example", "hooks.example"),
        ("93.184.0.0/16", "hooks.example"),
        ("93.184.215.14", "hooks.example"),
        ("::/0 0.0.0.0/0", "hooks.example"),
    ],
)
def test_what_is_listed_is_allowed(listed: str, host: str) -> None:
    assert allows(listed, host)


@pytest.mark.parametrize(
    ("listed", "host"),
    [
        ("", "hooks.example"),
        ("hooks.example", "xhooks.example"),
        ("hooks.example", "hooks.example.attacker.example"),
        ("hooks.example", "a.hooks.example"),
        ("*.corp.example", "corp.example"),
        ("*.corp.example", "evilcorp.example"),
        ("hooks.example:8443", "hooks.example"),
        ("10.0.0.0/8", "hooks.example"),
        ("apprise:https", "hooks.example"),
    ],
)
def test_what_is_not_is_refused(listed: str, host: str) -> None:
    assert not allows(listed, host)


def test_a_host_without_a_port_is_listed_for_that_of_its_scheme() -> None:
    assert not allows("hooks.example", "hooks.example", port=8443)
    assert allows("hooks.example:8443", "hooks.example", port=8443)
    assert allows("hooks.example", "hooks.example", port=80, scheme="http")
    assert not allows("hooks.example", "hooks.example", port=80)
    assert allows("10.0.0.0/8", "hooks.example", "10.1.2.3", port=8443)


def test_all_addresses_of_a_name_must_be_in_listed_networks_whatever_their_form() -> None:
    assert allows("10.0.0.0/8 fd00::/8", "a.example", "10.0.0.1", "fd00::1")
    assert not allows("10.0.0.0/8", "a.example", "10.0.0.1", "11.0.0.1")
    assert allows("10.0.0.0/8", "a.example", "::ffff:10.0.0.1")
    assert not allows("::/0", "a.example", "::ffff:10.0.0.1")
    assert not egress_from_texts(["10.0.0.0/8"]).allows("https", "a.example", 443, [])


def test_without_a_list_everything_is_allowed_and_an_empty_one_allows_nothing() -> None:
    assert ANYWHERE.allows("https", "a.example", 8443, ["10.0.0.1"])
    assert ANYWHERE.allows_channel(["slack"])
    assert not egress_from_texts([]).allows("https", "a.example", 443, ["10.0.0.1"])
    assert not egress_from_texts(["slack"]).allows_channel(["slack"])
    assert egress_from_texts(["apprise:slack"]).allows_channel(["slacks", "slack"])


def test_code_is_asked_besides_the_list_and_never_instead() -> None:
    asked: list[str] = []

    def permits(host: str, port: int, addresses: Sequence[str]) -> bool:
        asked.append(host)
        return True

    listed = egress_from_texts(["a.example"])
    egress = Egress(listed.hosts, is_limited=True, permits=permits)
    assert egress.allows("https", "a.example", 443, ["93.184.215.14"])
    assert not egress.allows("https", "b.example", 443, ["93.184.215.14"])
    assert asked == ["a.example"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "https://a.example", "a.example/path", "a.example:", "a.example:0"),
        *("a.example:65536", "*", "*.", "a.*.example", "10.1.2.3/16", "10.1.2.3:443", "2130706433"),
        *("a.1", "bücher.example", "apprise:", "a b", "user@a.example", "[::1]:443"),
    ],
)
def test_what_could_be_meant_otherwise_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="nothing that a connection could go to"):
        egress_from_texts([text])
