"""The serializer of checkpoints: what LangGraph's own writes, read back through a list of allowed
types.

LangGraph's serializer reads any type unless an environment variable was set before its import, and
where it is strict, a type that is not allowed silently comes back as a plain dict. This one is
always strict, and loud: it refuses such a value when it is *written*, while the developer looks,
and again when it is read, in case the file was tampered with.
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
"""The name of a module, and a name in it."""

PLAIN = frozenset({"null", "bytes", "bytearray", "msgpack"})
"""The encodings that are read. `json` could make some of LangChain's objects, and `pickle` any
object at all."""


class StrictSerializer(JsonPlusSerializer):
    """Writes and reads plain data, messages, LangGraph's own types, and the types it was given.

    Raises `ConfigurationError` for any other type, and names it.
    """

    def __init__(self, allowed: Iterable[type | Type] = ()) -> None:
        super().__init__(allowed_msgpack_modules=None)
        self._extra = frozenset(_named(each) for each in allowed)

    def with_msgpack_allowlist(self, extra_allowlist: Iterable[type | Type]) -> StrictSerializer:
        """The same serializer with more types. `compile()` passes those of the graph's state when
        LANGGRAPH_STRICT_MSGPACK is set."""
        extra = self._extra.union(_named(each) for each in extra_allowlist)
        if extra <= self._extra | SAFE_MSGPACK_TYPES:
            return self
        return StrictSerializer(extra)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        if obj is None or isinstance(obj, (bytes, bytearray)):
            return super().dumps_typed(obj)
        has_extensions = False

        def extension(value: Any) -> Any:
            nonlocal has_extensions
            has_extensions = True
            return jsonplus._msgpack_default(value)

        data = ormsgpack.packb(obj, default=extension, option=jsonplus._option)
        if has_extensions:
            _Check(self._extra).unpack(data)
        return "msgpack", data

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        kind, body = data
        if kind not in PLAIN:
            raise ConfigurationError(
                f"A checkpoint's value is encoded as {kind!r}, which is never read. "
                "Restore the file from a backup."
            )
        if kind == "msgpack":
            return _Make(self._extra).unpack(body)
        return super().loads_typed(data)


class _Check:
    """Reads a value through and refuses types that are not allowed. It makes nothing."""

    def __init__(self, extra: frozenset[Type]) -> None:
        self._extra = extra
        self._refused: Exception | None = None

    def unpack(self, data: bytes) -> Any:
        try:
            return self._unpack(data)
        except ValueError:
            # The decoder does not pass on what its hook raises.
            raise self._refused or ConfigurationError(
                "A value of a checkpoint is damaged. Restore the file from a backup."
            ) from None

    def _unpack(self, data: bytes) -> Any:
        return ormsgpack.unpackb(data, ext_hook=self._extension, option=ormsgpack.OPT_NON_STR_KEYS)

    def _extension(self, code: int, data: bytes) -> Any:
        parts = self._unpack(data)
        if code in (jsonplus.EXT_DELTA_SNAPSHOT, jsonplus.EXT_NUMPY_ARRAY):
            return self.plain(code, parts, data)
        module, name, payload = parts[:3]
        if code == jsonplus.EXT_METHOD_SINGLE_ARG:
            if (module, name, parts[3]) not in SAFE_MSGPACK_METHODS:
                raise self._refuse(f"{module}.{name}.{parts[3]}")
        elif (module, name) not in SAFE_MSGPACK_TYPES and (module, name) not in self._extra:
            raise self._refuse(f"{module}.{name}")
        return self.make(code, module, name, payload)

    def _refuse(self, name: str) -> Exception:
        self._refused = ConfigurationError(
            f"A checkpoint may not hold a {name}: only types that were allowed are ever made again "
            "from the file. If it belongs to your graph's state, declare the state with it, or "
            "name it: for a server in ASSENT_STATE_TYPES, in code with "
            "SqliteSaver.from_conn_string(path, allowed=[...]). "
            "If it does not, the file was tampered with."
        )
        return self._refused

    def plain(self, code: int, parts: Any, data: bytes) -> Any:
        """Make a value of plain parts."""

    def make(self, code: int, module: str, name: str, payload: Any) -> Any:
        """Make an object of an allowed type."""


class _Make(_Check):
    """Makes the value."""

    def plain(self, code: int, parts: Any, data: bytes) -> Any:
        if code == jsonplus.EXT_DELTA_SNAPSHOT:
            return _DeltaSnapshot(parts)
        return jsonplus._msgpack_ext_hook(code, data)

    def make(self, code: int, module: str, name: str, payload: Any) -> Any:
        if code == jsonplus.EXT_METHOD_SINGLE_ARG:
            return datetime.fromisoformat(payload)
        cls = getattr(import_module(module), name, None)
        if cls is None:
            raise self._refuse(f"{module}.{name}, which does not exist any more")
        return _instance(cls, code, payload)


def _instance(cls: Any, code: int, payload: Any) -> Any:
    if code == jsonplus.EXT_CONSTRUCTOR_SINGLE_ARG:
        return cls(payload)
    if code == jsonplus.EXT_CONSTRUCTOR_POS_ARGS:
        if cls.__name__ == "Send" and len(payload) > 2:
            # Its third argument can only be given by name.
            return cls(*payload[:2], timeout=payload[2])
        return cls(*payload)
    try:
        return cls(**payload)
    except Exception:
        # A model that was valid once, and that today's code would refuse, is read as it was
        # written.
        construct = getattr(cls, "model_construct", None) or getattr(cls, "construct", None)
        if construct is None:
            raise
        return construct(**payload)


def _named(each: type | Type) -> Type:
    return (each.__module__, each.__name__) if isinstance(each, type) else tuple(each)
