"""Secrets of the server's own: a setting, or else a file beside the database."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from pathlib import Path

from assent.core.atomic_file import replace_file
from assent.core.errors import ConfigurationError

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One such secret: its `name` in sentences, the `setting` that may have it, and the `suffix` of
    its file. `lost` says what ends with it."""

    name: str
    setting: str
    suffix: str
    lost: str

    def parse(self, text: str) -> bytes:
        """The secret that the base64 stands for. Raises `ConfigurationError`, which does not repeat
        it."""
        try:
            secret = base64.b64decode(text, validate=True)
        except ValueError:
            secret = b""
        if len(secret) < KEY_BYTES:
            raise ConfigurationError(
                f"The {self.name} is not the base64 of {KEY_BYTES} bytes or more. "
                f"Make one: openssl rand -base64 {KEY_BYTES}"
            )
        return secret

    def path(self, database: Path) -> Path:
        """The file beside the database."""
        return database.with_name(f"{database.name}{self.suffix}")

    def beside(self, database: Path) -> bytes:
        """The secret in the file beside the database. A missing file is created, readable by its
        owner only. Raises `ConfigurationError`."""
        path = self.path(database)
        try:
            if not path.exists():
                new = base64.b64encode(secrets.token_bytes(KEY_BYTES))
                replace_file(path, new, mode=0o600)
            return self.parse(path.read_text(encoding="ascii").strip())
        except OSError as error:
            raise ConfigurationError(
                f"The {self.name} cannot be kept in {path}: {error.strerror}. "
                f"Set {self.setting} instead."
            ) from error
        except (ConfigurationError, ValueError):
            raise ConfigurationError(
                f"The file {path} holds no {self.name}. Restore it; or remove it, and {self.lost}."
            ) from None


LINKS = KeyFile(
    name="key of links",
    setting="ASSENT_LINK_KEY",
    suffix=".links-key",
    lost="links sent so far end",
)
PEPPER = KeyFile(
    name="pepper of API keys",
    setting="ASSENT_KEY_PEPPER",
    suffix=".key-pepper",
    lost="API keys and sessions made so far end",
)
