"""The serializer of checkpoints: what LangGraph's writes, read back by a list of types that may be
made, and by no others.

LangGraph's own reads anything unless an environment variable was set before it was imported, and
where it is strict, a type that is not allowed comes back as a plain dict in silence. This one is
always strict, and loud: it refuses such a value when it is *written*, while the developer looks,
and refuses it again when it is read, in case the file was tampered with.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from importlib import import_module
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_METHODS, SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from assent.core.errors import ConfigurationError

Type = tuple[str, ...]
"""A module's name, and a name in it."""

PLAIN = frozenset({"null", "bytes", "bytearray", "msgpack"})
"""The encodings that are read. `json` could make some objects of LangChain's, and `pickle` anything
at all."""


class StrictSerializer(JsonPlusSerializer):
    """Writes and reads plain data, messages, LangGraph's own types, and the types it was given.

    Raises `ConfigurationError`, which names the type, for any other.
    """

    def __init__(self, allowed: Iterable[type | Type] = ()) -> None:
        super().__init__(allowed_msgpack_modules=None)
        self._extra = frozenset(_named(each) for each in allowed)

    def with_msgpack_allowlist(self, extra_allowlist: Iterable[type | Type]) -> StrictSerializer:
        """The same, with more types; `compile()` passes a graph's own when LANGGRAPH_STRICT_MSGPACK
        is set."""
        extra = self._extra.union(_named(each) for each in extra_allowlist)
        return self if extra <= self._extra | SAFE_MSGPACK_TYPES else StrictSerializer(extra)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        if obj is None or isinstance(obj, (bytes, bytearray)):
            return super().dumps_typed(obj)
        extensions = 0

        def extension(value: Any) -> Any:
            nonlocal extensions
            extensions += 1
            return jsonplus._msgpack_default(value)

        data = ormsgpack.packb(obj, default=extension, option=jsonplus._option)
        if extensions:
            _Check(self._extra).unpack(data)
        return "msgpack", data

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        kind, body = data
        if kind not in PLAIN:
            raise ConfigurationError(
                f"A checkpoint's value is encoded as {kind!r}, which is never read. Restore the file from a backup."
            )
        return _Make(self._extra).unpack(body) if kind == "msgpack" else super().loads_typed(data)


class _Check:
    """Reads a value through to see whether it could be made, and makes nothing."""

    def __init__(self, extra: frozenset[Type]) -> None:
        self._extra = extra
        self._refused: Exception | None = None

    def unpack(self, data: bytes) -> Any:
        try:
            return ormsgpack.unpackb(
                data, ext_hook=self._extension, option=ormsgpack.OPT_NON_STR_KEYS
            )
        except ValueError:
            # The decoder does not pass on what its hook raises.
            raise self._refused or ConfigurationError(
                "A value of a checkpoint is damaged. Restore the file from a backup."
            ) from None

    def _extension(self, code: int, data: bytes) -> Any:
        parts = self._nested(data)
        if code in (jsonplus.EXT_DELTA_SNAPSHOT, jsonplus.EXT_NUMPY_ARRAY):
            return self.plain(code, parts, data)
        module, name, payload = parts[:3]
        if code == jsonplus.EXT_METHOD_SINGLE_ARG:
            if (module, name, parts[3]) not in SAFE_MSGPACK_METHODS:
                raise self._refuse(f"{module}.{name}.{parts[3]}")
        elif (module, name) not in SAFE_MSGPACK_TYPES and (module, name) not in self._extra:
            raise self._refuse(f"{module}.{name}")
        return self.make(code, module, name, payload)

    def _nested(self, data: bytes) -> Any:
        return ormsgpack.unpackb(data, ext_hook=self._extension, option=ormsgpack.OPT_NON_STR_KEYS)

    def _refuse(self, name: str) -> Exception:
        self._refused = ConfigurationError(
            f"A checkpoint may not hold a {name}: only types that were allowed are ever made again from the file. If it belongs to your "
            "graph's state, declare the state with it, or name it: for a server in ASSENT_STATE_TYPES, in code with "
            "SqliteSaver.from_conn_string(path, allowed=[...]). If it does not, the file was tampered with."
        )
        return self._refused

    def plain(self, code: int, parts: Any, data: bytes) -> Any:
        return None

    def make(self, code: int, module: str, name: str, payload: Any) -> Any:
        return None


class _Make(_Check):
    """Makes the value."""

    def plain(self, code: int, parts: Any, data: bytes) -> Any:
        return (
            _DeltaSnapshot(parts)
            if code == jsonplus.EXT_DELTA_SNAPSHOT
            else jsonplus._msgpack_ext_hook(code, data)
        )

    def make(self, code: int, module: str, name: str, payload: Any) -> Any:
        if code == jsonplus.EXT_METHOD_SINGLE_ARG:
            return datetime.fromisoformat(payload)
        cls = getattr(import_module(module), name, None)
        if cls is None:
            raise self._refuse(f"{module}.{name}, which does not exist any more")
        return _made(cls, code, payload)


def _made(cls: Any, code: int, payload: Any) -> Any:
    if code == jsonplus.EXT_CONSTRUCTOR_SINGLE_ARG:
        return cls(payload)
    if code == jsonplus.EXT_CONSTRUCTOR_POS_ARGS:
        # A Send takes its third argument, a timeout, by name only.
        return (
            cls(*payload)
            if len(payload) < 3 or cls.__name__ != "Send"
            else cls(*payload[:2], timeout=payload[2])
        )
    try:
        return cls(**payload)
    except Exception:
        # A model that was valid once, and would be refused by the code of today, is read as it was
        # written.
        construct = getattr(cls, "model_construct", None) or getattr(cls, "construct", None)
        if construct is None:
            raise
        return construct(**payload)


def _named(each: type | Type) -> Type:
    return (each.__module__, each.__name__) if isinstance(each, type) else tuple(each)
