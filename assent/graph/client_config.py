"""The part of a graph's config that a client may give: `configurable` keys that the graph declares,
`tags` and `metadata` for callbacks and tracing."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from assent.core.config_keys import is_own_key, is_trace_key
from assent.core.errors import InvalidInput
from assent.core.json import Json, JsonObject, encode_json

MAX_CONFIGURABLE_BYTES = 16 * 1024
"""The most bytes of one value in `configurable`, as JSON: LangGraph copies texts and numbers among
them into each checkpoint."""


class _ClientConfig(msgspec.Struct, forbid_unknown_fields=True):
    """The form of a client's config."""

    configurable: JsonObject = {}
    tags: list[str] = []
    metadata: dict[str, str | int | float | bool | None] = {}


def check_client_config(agent: str, config: Json, declared: Collection[str]) -> None:
    """Raise `InvalidInput` if this is no config, for what a client may not set, or for what an
    agent of this name does not declare."""
    try:
        given = msgspec.convert(config, _ClientConfig)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"The 'config' is not right: {error}. It may have 'configurable', 'tags', which are "
            "texts, and 'metadata' of texts and numbers."
        ) from None
    for key, value in given.configurable.items():
        _check_configurable(agent, key, value, declared)
    for tag in given.tags:
        # Such tags steer LangChain and LangGraph: which steps are nodes, and what is streamed.
        if ":" in tag or tag == "nostream":
            raise InvalidInput(
                f"The tag '{tag}' is not for clients: a tag has no ':', and is not 'nostream'."
            )
    for key in given.metadata:
        if is_trace_key(key):
            raise InvalidInput(
                f"'{key}' in the 'metadata' of 'config' is not for clients. Give it another name."
            )


def _check_configurable(agent: str, key: str, value: Json, declared: Collection[str]) -> None:
    if key == "thread_id":
        raise InvalidInput(
            "'thread_id' in 'configurable' is not for clients: send \"thread_id\" beside the "
            "message."
        )
    if is_own_key(key):
        raise InvalidInput(f"'{key}' in 'configurable' is not for clients.")
    if key not in declared:
        known = f"It declares: {', '.join(sorted(declared))}." if declared else "It declares none."
        raise InvalidInput(f"The agent '{agent}' declares no configurable '{key}'. {known}")
    if len(encode_json(value)) > MAX_CONFIGURABLE_BYTES:
        raise InvalidInput(
            f"'{key}' in 'configurable' is larger than {MAX_CONFIGURABLE_BYTES // 1024} KiB."
        )
