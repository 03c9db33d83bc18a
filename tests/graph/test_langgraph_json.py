"""A project's langgraph.json: every setting of LangGraph's CLI is honoured, has no effect, or is
refused by its name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from assent.config.project import descriptions_of, open_store_options, with_project
from assent.config.settings import Settings
from assent.config.settings import StoreIndex as StoreIndexSetting
from assent.core.errors import AgentLoadError, ConfigurationError
from assent.graph.langgraph_json import (
    NOT_HERE,
    READ,
    WITHOUT_EFFECT,
    Cors,
    StoreIndex,
    StoreTtl,
)
from assent.graph.loading import open_agents

GRAPH = """
from langgraph.graph import START, MessagesState, StateGraph

graph = StateGraph(MessagesState).add_node("answer", lambda state: {}).add_edge(START, "answer")
"""

CLI_KEYS = {
    *("$schema", "_INTERNAL_docker_tag", "api_version", "auth", "base_image", "checkpointer"),
    *("dependencies", "dockerfile_lines", "encryption", "env", "graphs", "http", "image_distro"),
    *("keep_pkg_tools", "node_version", "pip_config_file", "pip_installer", "python_version"),
    *("source", "store", "ui", "ui_config", "webhooks"),
}
"""The settings that LangGraph's CLI reads."""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a project with these settings."""
    (tmp_path / "langgraph_json_agent.py").write_text(GRAPH)

    def write(**settings: Any) -> Path:
        file = tmp_path / "langgraph.json"
        graphs = {"a": "./langgraph_json_agent.py:graph"}
        file.write_text(json.dumps({"graphs": graphs, **settings}))
        return file

    return write


def test_every_key_of_the_cli_is_read_or_without_effect_or_refused() -> None:
    refused = {name for name in NOT_HERE if "." not in name}
    assert READ | WITHOUT_EFFECT | refused == CLI_KEYS


@pytest.fixture(autouse=True)
def _no_module_is_left() -> Iterator[None]:
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]


async def warnings_of(file: Path) -> list[dict[str, Any]]:
    with capture_logs() as logs:
        async with open_agents(str(file)):
            pass
    return [dict(entry) for entry in logs if entry["log_level"] == "warning"]


# ── what has no effect ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("$schema", "https://langgra.ph/schema.json"),
        ("_INTERNAL_docker_tag", "x"),
        ("api_version", "0.7"),
        ("base_image", "langchain/langgraph-api:0.7"),
        ("dockerfile_lines", ["RUN true"]),
        ("image_distro", "wolfi"),
        ("keep_pkg_tools", True),
        ("node_version", "20"),
        ("pip_config_file", "pip.conf"),
        ("pip_installer", "uv"),
        ("python_version", "3.11"),
        ("source", {"kind": "uv", "root": ".."}),
        *((key, None) for key in sorted(CLI_KEYS - {"graphs"})),
        *((key, {}) for key in ("auth", "encryption", "webhooks", "ui", "store", "http")),
        ("http", {"disable_assistants": True, "disable_store": True, "disable_mcp": True}),
        ("http", {"disable_a2a": True, "disable_ui": True, "disable_webhooks": True}),
        ("http", {"disable_runs": False, "disable_threads": False, "disable_meta": False}),
        ("http", {"logging_headers": {"excludes": ["*key*"]}}),
        ("checkpointer", {"serde": {"pickle_fallback": False, "allowed_msgpack_modules": None}}),
    ],
)
async def test_what_builds_an_image_or_asks_for_nothing_has_no_effect(
    write: Write, key: str, value: Any
) -> None:
    file = write(**{key: value})
    assert await warnings_of(file) == []
    async with open_agents(str(file)) as agents:
        assert list(agents) == ["a"]
        assert with_project(Settings(), agents) == Settings()


async def test_a_newer_python_than_ours_is_warned_of(write: Write) -> None:
    newer = f"3.{sys.version_info.minor + 1}"
    (warning,) = await warnings_of(write(python_version=newer))
    assert warning["python_version"] == newer


async def test_a_package_that_is_not_installed_is_warned_of(write: Write) -> None:
    there = ["langchain-openai>=1", "langchain_core", "git+https://example.com/x.git@main"]
    (warning,) = await warnings_of(write(dependencies=[*there, "no-such-package[x] >= 2"]))
    assert warning["install"] == "pip install 'no-such-package[x] >= 2'"


async def test_a_file_of_variables_that_is_not_there_is_warned_of(write: Write) -> None:
    file = write(env=".env")
    (warning,) = await warnings_of(file)
    assert warning["env"] == str(file.parent / ".env")


# ── what is refused ───────────────────────────────────────────────────────────────────────────────

SIZED = {"includes": ["x-tenant"]}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"grahps": {}}, "{file} has a key 'grahps' that nobody knows. Did you mean 'graphs'?"),
        ({"zzzzzz": {}}, "{file} has a key 'zzzzzz' that nobody knows. Remove it."),
        (
            {"auth": {"path": "./auth.py:auth"}},
            '"auth.path" in {file} cannot be loaded. There is no file',
        ),
        (
            {"auth": {"disable_studio_auth": True}},
            "{file} is wrong: Object missing required field `path` - at `$.auth`",
        ),
        (
            {"encryption": {"path": "./e.py:e"}},
            '"encryption" in {file} is not supported. Set ASSENT_ENCRYPTION_KEY, and everything is '
            "encrypted.",
        ),
        (
            {"webhooks": {"headers": {"a": "b"}}},
            '"webhooks" in {file} is not supported. Name the hosts that may be told of runs, with the '
            'secrets that sign, in the section "webhooks" of ASSENT_CONFIG.',
        ),
        ({"ui": {"a": "./a.tsx"}}, '"ui" in {file} is not supported: Assent serves no pages'),
        ({"ui_config": {"a": 1}}, '"ui_config" in {file} is not supported: Assent serves no'),
        (
            {"checkpointer": {"path": "./c.py:make"}},
            '"checkpointer.path" in {file} is not supported. Assent keeps checkpoints in its own '
            "database, with the approvals that they belong to.",
        ),
        (
            {"checkpointer": {"serde": {"pickle_fallback": True}}},
            '"checkpointer.serde.pickle_fallback" in {file} cannot be true',
        ),
        (
            {"checkpointer": {"serde": {"allowed_msgpack_modules": True}}},
            '"checkpointer.serde.allowed_msgpack_modules" in {file} cannot be true',
        ),
        (
            {"checkpointer": {"serde": {"allowed_json_modules": True}}},
            '"checkpointer.serde.allowed_json_modules" in {file} cannot be true',
        ),
        (
            {"checkpointer": {"serde": {"allowed_msgpack_modules": [["Name"]]}}},
            '"checkpointer.serde.allowed_msgpack_modules" in {file} must list types as',
        ),
        (
            {"checkpointer": {"ttl": {"strategy": "keep"}}},
            "{file} is wrong: Invalid enum value 'keep' - at `$.checkpointer.ttl.strategy`.",
        ),
        (
            {"checkpointer": {"ttl": {"default_ttl": 0}}},
            "{file} is wrong: Expected `float` > 0.0 - at `$.checkpointer.ttl.default_ttl`.",
        ),
        (
            {"store": {"index": {"embed": "openai:small"}}},
            "{file} is wrong: Object missing required field `dims` - at `$.store.index`.",
        ),
        (
            {"store": {"indices": {}}},
            "{file} is wrong: Object contains unknown field `indices` - at `$.store`.",
        ),
        (
            {"store": {"index": {"embed": "./nowhere.py:embed", "dims": 3}}},
            '"store.index.embed" in {file} cannot be loaded. There is no file',
        ),
        ({"http": {"disable_runs": True}}, '"http.disable_runs" in {file} is not supported'),
        ({"http": {"disable_threads": True}}, '"http.disable_threads" in {file} is not supported'),
        ({"http": {"disable_meta": True}}, '"http.disable_meta" in {file} is not supported'),
        (
            {"http": {"configurable_headers": SIZED}},
            '"http.configurable_headers" in {file} is not supported. Send "config"',
        ),
        (
            {"http": {"middleware_order": "auth_first"}},
            '"http.middleware_order" in {file} is not supported',
        ),
        (
            {"http": {"cors": {"allow_credentials": True}}},
            '"http.cors.allow_credentials" in {file} cannot be true',
        ),
        (
            {"http": {"cors": {"allow_origins": ["*"]}}},
            "\"http.cors.allow_origins\" in {file} has '*', which is no origin.",
        ),
        (
            {"http": {"cors": {"allow_methods": ["GET"]}}},
            '"http.cors.allow_methods" in {file} is not supported: pages get',
        ),
        (
            {"http": {"cors": {"allow_origin_regex": "("}}},
            '"http.cors.allow_origin_regex" in {file} is no regular expression',
        ),
        ({"http": {"mount_prefix": "api"}}, '"http.mount_prefix" in {file} must begin with "/".'),
        (
            {"http": {"app": "./nowhere.py:app"}},
            '"http.app" in {file} cannot be loaded. There is no file',
        ),
        (
            {"http": {"app": "./langgraph_json_agent.py:app"}},
            "{folder}/langgraph_json_agent.py has",
        ),
        ({"graphs": {"a": {"path": "./a.py:a", "x": 1}}}, "{file} is wrong: Object contains"),
        ({"graphs": {"a": "./langgraph_json_agent.js:a"}}, "The graph 'a' in {file} cannot be"),
    ],
)
async def test_what_is_not_honoured_is_refused_by_its_name(
    write: Write, settings: dict[str, Any], sentence: str
) -> None:
    file = write(**settings)
    with pytest.raises(AgentLoadError) as refused:
        async with open_agents(str(file)):
            pass
    message = refused.value.message
    assert message.startswith(sentence.format(file=file, folder=file.parent)), message
    assert message.endswith((".", "?"))


# ── what is honoured ──────────────────────────────────────────────────────────────────────────────


async def settings_with(file: Path, settings: Settings) -> Settings:
    async with open_agents(str(file)) as agents:
        return with_project(settings, agents)


async def test_a_time_to_live_is_that_of_threads(write: Write) -> None:
    ttl = {"default_ttl": 43_200, "strategy": "delete", "sweep_interval_minutes": 10}
    file = write(checkpointer={"ttl": {**ttl, "sweep_limit": 5}})
    assert (await settings_with(file, Settings())).threads_ttl == timedelta(days=30)


async def test_keeping_the_latest_keeps_one_checkpoint(write: Write) -> None:
    file = write(checkpointer={"ttl": {"default_ttl": 60, "strategy": "keep_latest"}})
    settings = await settings_with(file, Settings())
    assert (settings.checkpoints_keep, settings.threads_ttl) == (1, None)


async def test_the_environment_goes_before_the_file(write: Write) -> None:
    file = write(checkpointer={"ttl": {"default_ttl": 60}})
    made = Settings(threads_ttl=timedelta(days=1))
    with capture_logs() as logs:
        assert (await settings_with(file, made)).threads_ttl == timedelta(days=1)
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert warning["setting"] == "ASSENT_THREADS_TTL"
    assert warning["key"] == "checkpointer.ttl.default_ttl"


async def test_types_of_states_are_added_to_those_of_the_settings(write: Write) -> None:
    serde = {
        "allowed_msgpack_modules": [["shop.models", "Order"]],
        "allowed_json_modules": [["shop", "models", "Line"]],
    }
    made = Settings(state_types=(("shop.models", "Basket"),))
    settings = await settings_with(write(checkpointer={"serde": serde}), made)
    names = ["Basket", "Line", "Order"]
    assert settings.state_types == tuple(("shop.models", name) for name in names)


async def test_the_code_that_the_file_names_is_loaded(write: Write) -> None:
    file = write(
        store={
            "index": {"embed": "./langgraph_json_code.py:embed", "dims": 2, "fields": ["text"]},
            "ttl": {"default_ttl": 5.5, "refresh_on_read": False},
        },
        http={
            "app": "./langgraph_json_code.py:app",
            "cors": {"allow_origins": ["https://a.example:8443"], "allow_methods": ["*"]},
        },
    )
    code = "def embed(texts): return [[0.0, 1.0] for _ in texts]\nasync def app(*_): pass\n"
    (file.parent / "langgraph_json_code.py").write_text(code)
    async with open_agents(str(file)) as project:
        assert project.embed(["a"]) == [[0.0, 1.0]]
        assert project.app.__name__ == "app"
        assert project.file is not None and project.file.store and project.file.http
        index = StoreIndex(embed="./langgraph_json_code.py:embed", dims=2, fields=("text",))
        assert project.file.store.index == index
        assert project.file.store.ttl == StoreTtl(default_ttl=5.5, refresh_on_read=False)
        origins = ("https://a.example:8443",)
        assert project.file.http.cors == Cors(allow_origins=origins, allow_methods=("*",))


INDEX = {"embed": "./langgraph_json_code.py:embed", "dims": 2, "fields": ["text"]}


async def test_the_options_of_the_store_are_those_of_the_file(write: Write) -> None:
    file = write(store={"index": INDEX, "ttl": {"default_ttl": 5.5, "refresh_on_read": False}})
    code = "def embed(texts): return [[0.0, 1.0] for _ in texts]\n"
    (file.parent / "langgraph_json_code.py").write_text(code)
    same = Settings(store_index=StoreIndexSetting(**INDEX))
    for settings in (Settings(), same):
        async with (
            open_agents(str(file)) as agents,
            open_store_options(settings, agents) as options,
        ):
            assert options.index is not None and options.ttl is not None
            assert (options.index["dims"], options.index["fields"]) == (2, ["text"])
            assert options.index["embed"](["a"]) == [[0.0, 1.0]]  # type: ignore[operator]
            assert (options.ttl["default_ttl"], options.ttl["refresh_on_read"]) == (5.5, False)

    other = Settings(store_index=StoreIndexSetting(**{**INDEX, "dims": 3}))
    with pytest.raises(ConfigurationError, match="name different embeddings"):
        async with open_agents(str(file)) as agents, open_store_options(other, agents):
            pass


async def test_a_new_project_of_the_cli_runs_without_its_variables() -> None:
    template = Path(__file__).parents[1] / "graphs/template/langgraph.json"
    (warning,) = await warnings_of(template)
    assert warning["env"] == str(template.parent / ".env")
    async with open_agents(str(template)) as agents:
        ended = await agents["agent"].ainvoke({"changeme": "hello"})
    assert ended == {"changeme": "output from call_model. Configured with None"}


async def test_graphs_may_say_what_they_are_for(write: Write) -> None:
    place = {"path": "./langgraph_json_agent.py:graph", "description": "Answers."}
    async with open_agents(str(write(graphs={"a": place, "b": place["path"]}))) as agents:
        assert list(agents) == ["a", "b"]
        assert descriptions_of(agents) == {"a": "Answers."}
    assert descriptions_of({}) == {}
