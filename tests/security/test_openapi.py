"""The server as its own OpenAPI document describes it: schemathesis walks from answer to answer
along the links, in each role, with data that fits and data that does not.

`make test` walks for some seconds, `make openapi` for OPENAPI_SECONDS in all.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import hypothesis
import pytest
from hypothesis.errors import FlakyStrategyDefinition

from tests.support import counted
from tests.support.secrets import bearer, keys_of
from tests.support.server import Server, project_of, serving
from tests.support.waiting import PATIENCE

SECONDS = float(os.environ.get("OPENAPI_SECONDS", "0"))
"""The time for all roles together; without any, each walks a little."""

SEED = int(os.environ.get("OPENAPI_SEED", "0"))
"""What the walks follow from: with the same seed they are the same, but for ids and times."""

OPERATOR = "operator"
ROLES = ("viewer", OPERATOR, "approver", "auditor", "admin")
OTHER = "other"

IN_THREAD = "canary-of-a-thread"
IN_APPROVAL = "canary-of-an-approval"
"""Words of somebody else's, which only those may see who see their threads, or also approvals."""

SEE_ALL = ("auditor", "admin")
SEE_APPROVALS = (*SEE_ALL, "approver")

AVAILABILITY = "ensure_resource_availability"

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "use_after_free",
    AVAILABILITY,
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

NAMED_IN_THE_BODY = "/threads/{id}/state/checkpoint"
"""A route whose 404 may be for something that only its body names, and not for what a link led to.
So `AVAILABILITY` is not asked of it."""

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
        _leave(server, OPERATOR, "my own", "mine")
        yield server


def _leave(server: Server, name: str, word: str, asked: str) -> None:
    """Leave the words wherever somebody leaves some: in a message, a name, metadata, a question."""
    with httpx.Client(base_url=server.url, headers=bearer(name), timeout=PATIENCE) as http:
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


class Walker:
    """Whoever walks the server, in a `role`, and finds no word there that is `unseen` to it."""

    def __init__(self, server: Server) -> None:
        # Here, and not in each worker that collects this module: it takes a second.
        import schemathesis
        from schemathesis import checks as made

        document = httpx.get(f"{server.url}/openapi.json", timeout=PATIENCE).json()
        config = schemathesis.Config()
        # Two keys would be too many: a request has ours already.
        config.projects.default.generation.update(with_security_parameters=False)
        config.projects.default.update(base_url=server.url)
        whole = schemathesis.openapi.from_dict(document, config=config)
        self._schema = whole.exclude(path=list(LEFT_OUT))
        made.load_all_checks()
        self._checks = [*(getattr(made, name) for name in CHECKS), self.no_other_owner]
        self._machine = _machine_of(self)
        self.begin("", ())

    def begin(self, role: str, unseen: tuple[str, ...]) -> None:
        """Be somebody else from now on."""
        self.role = role
        self.unseen = unseen
        self._failed: list[Exception] = []

    @property
    def headers(self) -> dict[str, str]:
        return {**bearer(self.role), **JSON}

    def walk(self, examples: int, seed: int) -> None:
        """Go from answer to answer."""
        hypothesis.seed(seed)(self._machine)
        # The same requests have other answers, since time goes on: hypothesis may then find no way
        # to go them again, which says nothing of the server.
        with suppress(FlakyStrategyDefinition):
            self._machine.run(settings=settings_of(examples))
        if self._failed:
            raise self._failed[0]

    def ask_each(self, examples: int, seed: int) -> None:
        """Ask every route, whether an answer leads there or not."""
        for found in self._schema.get_all_operations():

            @hypothesis.seed(seed)
            @settings_of(examples)
            @hypothesis.given(case=found.ok().as_strategy())
            def ask(case: Any) -> None:
                self.validate(case, case.call(headers=self.headers, timeout=PATIENCE))

            ask()

    def validate(self, case: Any, response: Any, recorder: Any = None) -> None:
        checks = self._checks
        if case.path == NAMED_IN_THE_BODY:
            checks = [check for check in checks if check.__name__ != AVAILABILITY]
        try:
            case.validate_response(
                response,
                checks=checks,
                headers=self.headers,
                # Without the key: a check asks again without one.
                transport_kwargs={"timeout": PATIENCE},
                recorder=recorder,
            )
        except Exception as failure:
            self._failed.append(failure)
            raise

    def no_other_owner(self, ctx: Any, response: Any, case: Any) -> None:
        shown = [word for word in self.unseen if word.encode() in response.content]
        assert not shown, f"{case.method} {case.path} shows what is somebody else's: {shown}"


def _machine_of(walker: Walker) -> Any:
    class Walk(walker._schema.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": walker.headers, "timeout": PATIENCE}

        def validate_response(
            self, response: Any, case: Any, additional_checks: Any = None, **kwargs: Any
        ) -> None:
            walker.validate(case, response, self.recorder)

    return Walk


def settings_of(each: int) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=each,
        stateful_step_count=8,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )


@pytest.fixture(scope="module")
def walker(server: Server) -> Walker:
    return Walker(server)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_finds_what_the_document_says_and_nothing_of_others(
    walker: Walker, role: str
) -> None:
    unseen = [] if role in SEE_ALL else [IN_THREAD]
    if role not in SEE_APPROVALS:
        unseen.append(IN_APPROVAL)
    walker.begin(role, tuple(unseen))
    seeds = itertools.count(SEED)
    if not SECONDS:
        walker.walk(4, next(seeds))
        # The others would be refused most of it.
        if role == OPERATOR:
            walker.ask_each(1, next(seeds))
    until = time.monotonic() + SECONDS / len(ROLES)
    while SECONDS and time.monotonic() < until:
        walker.walk(20, next(seeds))
        walker.ask_each(2, next(seeds))


def test_each_check_that_is_not_made_has_its_reason() -> None:
    from schemathesis.checks import CHECKS as REGISTERED
    from schemathesis.checks import load_all_checks

    load_all_checks()
    # It is made only where somebody sets a time.
    assert {*CHECKS, *OFF} == {*REGISTERED.get_all_names(), "max_response_time"}
    assert not set(CHECKS) & OFF.keys()
