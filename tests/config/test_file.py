"""The configuration file: read, or refused with a sentence that says what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from assent.config.file import Configuration, read_configuration
from assent.core.errors import ConfigurationError
from assent.core.policy import Person
from assent.graph.task_options import TaskRules
from tests.support.keys import NEW_SECRET

TOML = """
[notify.pager]
url = "https://example.com/hook"
secrets = ["env:PAGER"]
"""
JSON = '{"notify": {"pager": {"url": "https://example.com/hook", "secrets": ["env:PAGER"]}}}'


def slack(**changes: object) -> str:
    """A file whose section 'slack' is right but for this."""
    right = {"token": "xoxb-1", "signing_secret": "s", "team": "T01", "people": {"U01": "ann"}}
    return json.dumps({"slack": {**right, **changes}})


def webhooks(*urls: str, secrets: Sequence[str] = (NEW_SECRET,)) -> str:
    """A file that lists the hosts of these URLs for the webhooks of runs."""
    receivers = {f"r{at}": {"url": url, "secrets": secrets} for at, url in enumerate(urls)}
    return json.dumps({"webhooks": receivers})


def test_a_slack_user_is_one_of_their_workspace(tmp_path: Path) -> None:
    (tmp_path / "assent.json").write_text(slack(people={"U01": "ann", "T02:W01": "bob"}))
    app = read_configuration(tmp_path / "assent.json", {}).slack
    assert app is not None
    assert [app.person("T01", "U01"), app.person("T02", "W01")] == ["ann", "bob"]
    assert [app.person("T02", "U01"), app.person("", "U01")] == [None, None]


@pytest.mark.parametrize(("name", "text"), [("assent.toml", TOML), ("assent.json", JSON)])
def test_it_is_toml_or_json(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (endpoint,) = read_configuration(tmp_path / name, {"PAGER": NEW_SECRET}).endpoints
    assert endpoint.target is not None
    assert (endpoint.name, endpoint.target.secrets) == ("pager", (NEW_SECRET,))


def test_it_may_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "assent.toml").write_text("")
    assert read_configuration(tmp_path / "assent.toml", {}) == Configuration()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("assent.toml", "[notify", "is wrong"),
        ("assent.json", "{", "is wrong"),
        ("assent.json", "[]", "is not a table"),
        ("assent.toml", "[notifi.pager]\nurl = 'json://x'", "'notifi'"),
        ("assent.toml", "[notify.pager]\nurl = 'http://x'", "pager"),
        ("assent.json", slack(team="home"), "'team' is no workspace"),
        ("assent.json", slack(people={"@ann": "ann"}), "no Slack user '@ann'"),
        ("assent.json", slack(people={"X:U01": "ann"}), "no Slack user 'X:U01'"),
        ("assent.json", slack(token="env:NOWHERE"), "NOWHERE, which is not set"),
        ("assent.json", slack(token="xo\nxb"), "'token' is none"),
        ("assent.json", slack(signing_secret=" "), "'signing_secret' is empty"),
        ("assent.json", slack(url="http://slack.example/"), "Use https"),
        ("assent.json", slack(users={}), "Its fields are: token, signing_secret"),
        ("assent.json", webhooks("https://h.example/in"), "has a path"),
        ("assent.json", webhooks("http://h.example"), "Use https"),
        ("assent.json", webhooks("https://h.example", secrets=[]), "no secret"),
        ("assent.json", webhooks("https://ann:x@h.example"), "has a user"),
        ("assent.json", webhooks("https://h.example", "https://H.example.:443/"), "of another one"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_configuration(tmp_path / name, {})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ASSENT_CONFIG"):
        read_configuration(tmp_path / "none.toml", {})


def test_who_has_which_roles_and_how_calls_are_approved(tmp_path: Path) -> None:
    file = tmp_path / "assent.toml"
    file.write_text(
        '[people.ann]\nroles = ["lead"]\n[policies.agents.clerk]\ntimeout = "1d"\n[policies.agents.clerk.tools.pay]\nquorum = 2\n'
    )
    read = read_configuration(file, {})
    assert read.people == {"ann": Person(name="ann", roles=("lead",))}
    assert read.policies.policy("clerk", "pay").quorum == 2
    assert read.policies.policy("clerk", "look").quorum == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("people = 5", "section 'people'"),
        ("[people.ann]\nrole = 'lead'", "section 'people'.*'ann'"),
        ("[people.ann]\nroles = 'lead'", "section 'people'.*'ann'"),
        ("[policies.agents.clerk]\nquorums = 2", "section 'policies'.*'quorums'"),
        ("[policies.agents.clerk]\ntimeout = 'soon'", "section 'policies'.*'timeout'"),
    ],
)
def test_what_is_wrong_of_people_and_policies_is_named(
    tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "assent.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=says) as raised:
        read_configuration(file, {})
    assert str(file) in raised.value.message


def test_what_tasks_may_choose(tmp_path: Path) -> None:
    file = tmp_path / "assent.toml"
    file.write_text(
        '[tasks.clerk]\nenable_streaming = true\ninstructions = true\n[tasks.clerk.models]\n"gpt-4" = "openai:gpt-4"\n[tasks.plain]\n'
    )
    assert read_configuration(file, {}).tasks == {
        "clerk": TaskRules(
            enable_streaming=True, instructions=True, models={"gpt-4": "openai:gpt-4"}
        ),
        "plain": TaskRules(),
    }


@pytest.mark.parametrize(
    "text",
    ["instruction = true", "instructions = 'yes'", "models = ['gpt-4']", 'models = {"" = "x"}'],
)
def test_what_is_wrong_of_tasks_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "assent.toml"
    file.write_text(f"[tasks.clerk]\n{text}\n")
    with pytest.raises(ConfigurationError, match=r"section 'tasks'.*'clerk'.*models = "):
        read_configuration(file, {})
