"""The configuration file: read, or refused with a sentence that says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from assent.configuration import Configuration, read_configuration
from assent.errors import ConfigurationError
from tests.approvals.test_webhooks import NEW

TOML = """
[notify.pager]
url = "https://example.com/hook"
secrets = ["env:PAGER"]
"""
JSON = '{"notify": {"pager": {"url": "https://example.com/hook", "secrets": ["env:PAGER"]}}}'


@pytest.mark.parametrize(("name", "text"), [("assent.toml", TOML), ("assent.json", JSON)])
def test_it_is_toml_or_json(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (endpoint,) = read_configuration(tmp_path / name, {"PAGER": NEW}).endpoints
    assert endpoint.target is not None
    assert (endpoint.name, endpoint.target.secrets) == ("pager", (NEW,))


def test_it_may_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "assent.toml").write_text("")
    assert read_configuration(tmp_path / "assent.toml", {}) == Configuration()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("assent.toml", "[notify", "is not right"),
        ("assent.json", "{", "is not right"),
        ("assent.json", "[]", "is no table"),
        ("assent.toml", "[notifi.pager]\nurl = 'json://x'", "'notifi'"),
        ("assent.toml", "[notify.pager]\nurl = 'http://x'", "pager"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_configuration(tmp_path / name, {})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ASSENT_CONFIG"):
        read_configuration(tmp_path / "none.toml", {})
