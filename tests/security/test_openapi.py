"""The server as its own OpenAPI document describes it: schemathesis walks from answer to answer
along the links, in each role, with data that fits and data that does not.

`make test` walks for some seconds, `make openapi` for OPENAPI_SECONDS in all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import checks as found_checks
from schemathesis.checks import CHECKS as REGISTERED
from schemathesis.checks import load_all_checks

from tests.support import counted
from tests.support.secrets import bearer, keys_of
from tests.support.server import Server, project_of, serving

SECONDS = float(os.environ.get("OPENAPI_SECONDS", "0"))
"""The time for all roles together; without any, each walks a little, and always the same."""

ROLES = ("viewer", "operator", "approver", "auditor", "admin")
OTHER = "other"

IN_THREAD = "canary-of-a-thread"
IN_APPROVAL = "canary-of-an-approval"
"""Words of somebody else's, which only those may see who see their threads, or also approvals."""

SEE_ALL = ("auditor", "admin")
SEE_APPROVALS = (*SEE_ALL, "approver")

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "missing_required_header",
)
OFF = {
    "positive_data_acceptance": "What an agent takes as its input is more than a schema says.",
    "max_response_time": "The machine is busy with other tests.",
    "object_level_authorization": "no_other_owner looks for what is somebody else's in each answer.",
}
"""The checks that are not made, each with its reason."""

LEFT_OUT = {
    "/events/human-input/{execution_id}": "It streams without an end, and has no form as JSON.",
    "/progress/{id}": "The same.",
    "/api/v1/agents/{agent_id}/tasks/{task_id}/events/stream": "The same.",
}
"""The routes that are not walked, each with its reason."""

JSON = {"Accept": "application/json"}
"""Asks for streams in their JSON form."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("openapi")
    roles = {role: role for role in ROLES} | {OTHER: "operator"}
    settings = {
        "ASSENT_API_KEYS": keys_of(*roles),
        "ASSENT_ROLES": ",".join(f"{name}:{given}" for name, given in roles.items()),
        "ASSENT_RATE_LIMIT": "1000000/minute",
        "ASSENT_FAILED_KEYS": "1000000/minute",
    }
    with serving(folder, project_of(folder, {counted: ("counted",)}), **settings) as server:
        _leave(server, OTHER, IN_THREAD, IN_APPROVAL)
        # So that there is something to walk from.
        _leave(server, "operator", "my own", "mine")
        yield server


def _leave(server: Server, name: str, word: str, asked: str) -> None:
    """Leave the words wherever somebody leaves some: in a message, a name, metadata, a question."""
    with httpx.Client(base_url=server.url, headers=bearer(name), timeout=60) as http:
        _done(http.post("/agent/invoke", json={"message": f"look 1 then {word}"}))
        _done(http.post("/threads", json={"metadata": {"note": word}}))
        _done(http.post("/files", params={"name": word}, content=word.encode()))
        schedule = {"cron": "0 0 1 1 *", "timezone": "UTC", "message": word}
        _done(http.post("/schedules", json=schedule))
        task = {"description": word}
        _done(http.post("/api/v1/agents/counted/tasks", json=task))
        paused = _done(http.post("/agent/invoke", json={"message": f"{asked}; pay 5"}))
        assert paused["approvals"]


def _done(response: httpx.Response) -> Any:
    assert response.status_code < 300, response.text
    return response.json()


def walks_of(server: Server, role: str, unseen: tuple[str, ...]) -> tuple[Any, Any]:
    """The state machine that walks the server in this role, and a function that asks each of its
    routes. They find no such words there."""
    document = httpx.get(f"{server.url}/openapi.json").json()
    config = schemathesis.Config()
    # Two keys would be too many: a request has ours already.
    config.projects.default.generation.update(with_security_parameters=False)
    config.projects.default.update(base_url=server.url)
    schema = schemathesis.openapi.from_dict(document, config=config).exclude(path=list(LEFT_OUT))
    load_all_checks()
    made = [getattr(found_checks, name) for name in CHECKS]
    headers = {**bearer(role), **JSON}

    def no_other_owner(ctx: Any, response: Any, case: Any) -> None:
        shown = [word for word in unseen if word in response.text]
        assert not shown, f"{case.method} {case.path} shows what is somebody else's: {shown}"

    def validate(case: Any, response: Any, recorder: Any = None) -> None:
        case.validate_response(
            response,
            checks=[*made, no_other_owner],
            headers=headers,
            # Without the key: a check asks again without one.
            transport_kwargs={"timeout": 30},
            recorder=recorder,
        )

    class Walk(schema.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": headers, "timeout": 30}

        def validate_response(
            self, response: Any, case: Any, additional_checks: Any = None, **kwargs: Any
        ) -> None:
            validate(case, response, self.recorder)

    def ask_each(settings: hypothesis.settings) -> None:
        """Ask every route, whether an answer leads there or not."""
        for found in schema.get_all_operations():

            @settings
            @hypothesis.given(case=found.ok().as_strategy())
            def ask(case: Any) -> None:
                validate(case, case.call(headers=headers, timeout=30))

            ask()

    return Walk, ask_each


def settings_of(each: int) -> hypothesis.settings:
    """So many examples; without a time to fill, always the same."""
    return hypothesis.settings(
        max_examples=each,
        stateful_step_count=8,
        derandomize=not SECONDS,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )


@pytest.mark.parametrize("role", ROLES)
def test_each_role_finds_what_the_document_says_and_nothing_of_others(
    server: Server, role: str
) -> None:
    unseen = [] if role in SEE_ALL else [IN_THREAD]
    if role not in SEE_APPROVALS:
        unseen.append(IN_APPROVAL)
    walk, ask_each = walks_of(server, role, tuple(unseen))
    until = time.monotonic() + SECONDS / len(ROLES)
    rounds = 0
    while not rounds or time.monotonic() < until:
        walk.run(settings=settings_of(20 if SECONDS else 4))
        if SECONDS or role == "operator":
            ask_each(settings_of(2 if SECONDS else 1))
        rounds += 1


def test_each_check_that_is_not_made_has_its_reason() -> None:
    load_all_checks()
    assert {*CHECKS, *OFF} == {*REGISTERED.get_all_names(), "max_response_time"}
    assert not set(CHECKS) & OFF.keys()
