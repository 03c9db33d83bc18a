"""The way from a value to the bytes in the file, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from assent.checkpoint.bindings import Binding
from assent.core.sealing import Seal


@dataclass(frozen=True, slots=True)
class Codec:
    """Serializes values, and seals them if the file has a key."""

    serde: SerializerProtocol
    seal: Seal

    def sealed(self, data: bytes, binding: Binding) -> bytes:
        """Serialized data, as it is stored."""
        return self.seal.seal(data, *binding)

    def decoded(self, encoding: str, data: Any, binding: Binding) -> Any:
        """The value of stored data.

        Raises `Tampered` if it was not sealed for this place.
        """
        return self.serde.loads_typed((encoding, self.seal.open(data, *binding)))
