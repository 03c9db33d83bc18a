"""The server's own secrets, beside the database."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from assent.core.errors import ConfigurationError
from assent.core.key_files import LINKS, PEPPER, KeyFile


@pytest.mark.parametrize("kind", [LINKS, PEPPER])
def test_a_secret_is_made_once_beside_the_database_for_its_owner_only(
    kind: KeyFile, tmp_path: Path
) -> None:
    secret = kind.beside(tmp_path / "assent.db")

    assert len(secret) == 32
    (file,) = tmp_path.iterdir()
    assert file == kind.path(tmp_path / "assent.db")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert kind.beside(tmp_path / "assent.db") == secret
    assert kind.beside(tmp_path / "other.db") != secret


@pytest.mark.parametrize("kind", [LINKS, PEPPER])
def test_a_broken_secret_is_refused_and_not_repeated(kind: KeyFile, tmp_path: Path) -> None:
    kind.path(tmp_path / "assent.db").write_text("half a k")
    with pytest.raises(ConfigurationError, match=f"holds no {kind.name}") as refused:
        kind.beside(tmp_path / "assent.db")
    assert "half a k" not in str(refused.value)
    with pytest.raises(ConfigurationError, match=f"Set {kind.setting} instead"):
        kind.beside(tmp_path / "no such folder" / "assent.db")
    with pytest.raises(ConfigurationError, match="32 bytes or more") as refused:
        kind.parse("c2hvcnQ=")
    assert "c2hvcnQ" not in str(refused.value)
