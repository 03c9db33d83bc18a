"""Settings that do nothing: each is named, and what does something is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assent.config.file import Configuration
from assent.config.settings import Settings
from assent.config.without_effect import without_effect
from assent.core.policy import Person
from assent.graph.task_options import TaskRules

KEYS = {"ann": "secret-of-ann", "mailer": "secret-of-mailer"}


def said(
    environment: dict[str, str] | None = None,
    people: tuple[str, ...] = (),
    tasks: tuple[str, ...] = (),
    **settings: Any,
) -> list[tuple[str, str]]:
    configuration = Configuration(
        people={name: Person(name=name, roles=("lead",)) for name in people},
        tasks=dict.fromkeys(tasks, TaskRules(instructions=True)),
    )
    found = without_effect(Settings(**settings), configuration, environment or {})
    return [tuple(each) for each in found]


def test_an_unknown_variable_is_named_with_the_nearest_one() -> None:
    found = said(
        {"ASSENT_API_KEYZ": "x", "assent_max_run": "3", "ASSENT_FROBNICATE": "", "PATH": ""}
    )
    assert found == [
        ("ASSENT_API_KEYZ", "There is no such setting. Did you mean ASSENT_API_KEYS?"),
        ("ASSENT_FROBNICATE", "There is no such setting."),
        ("assent_max_run", "There is no such setting. Did you mean ASSENT_MAX_RUNS?"),
    ]


def test_what_something_reads_is_not_named(tmp_path: Path) -> None:
    file = tmp_path / "assent.toml"
    file.write_text('[notify.hook]\nsecrets = ["env:ASSENT_HOOK_SECRET"]\n')
    read = ("ASSENT_HOOK_SECRET", "ASSENT_API_KEY", "ASSENT_URL", "ASSENT_MODEL", "assent_records")
    assert said(dict.fromkeys(read, "x"), config=file) == []


def test_what_tasks_may_choose_needs_the_dialect() -> None:
    assert said(tasks=("clerk",)) == []
    found = said(tasks=("clerk",), dialects=["query"])
    assert found == [("tasks", "ASSENT_DIALECTS does not name 'tasks'.")]


def test_a_link_issuer_needs_a_key() -> None:
    reason = "It names 'bob', and ASSENT_API_KEYS has no key of 'bob'."
    issuers = ("mailer", "bob")
    assert said(api_keys=KEYS, link_issuers=issuers) == [("ASSENT_LINK_ISSUERS", reason)]


def test_whom_another_app_knows_needs_none() -> None:
    settings = Settings(link_issuers=("mailer", "bob"))
    assert list(without_effect(settings, Configuration(), {}, known_by_key=False)) == []


def test_so_does_somebody_with_roles_unless_there_are_links() -> None:
    reason = "It has roles for 'bob', and ASSENT_API_KEYS has no key of 'bob'."
    assert said(people=("ann", "bob"), api_keys=KEYS) == [("people", reason)]
    assert said(people=("bob",), api_keys=KEYS, public_url="https://assent.example") == []
    assert said(people=("bob",)) == []


def test_a_state_type_must_be_there() -> None:
    types = (("decimal", "Decimal"), ("decimal", "Dezimal"), ("no.such.module", "Thing"))
    assert said(state_types=types) == [
        ("ASSENT_STATE_TYPES", "It names decimal:Dezimal, and the module has no 'Dezimal'."),
        (
            "ASSENT_STATE_TYPES",
            "It names no.such.module:Thing, and the module cannot be imported "
            "(ModuleNotFoundError).",
        ),
    ]


def test_a_key_in_a_url_must_be_there() -> None:
    reason = "There are no keys that a URL could have."
    assert said(allow_query_token=True) == [("ASSENT_ALLOW_QUERY_TOKEN", reason)]
    assert said(allow_query_token=True, api_keys=KEYS) == []
