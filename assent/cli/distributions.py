"""The installed distributions of Assent. `assent` and `assent-client` have some of the same files,
so that one of another version would leave a mixture of both."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from assent.core.errors import ConfigurationError

NAMES = ("assent", "assent-client")


def installed() -> dict[str, str]:
    """The version of each that is installed."""
    found = {}
    for name in NAMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def of_one_version(versions: Mapping[str, str]) -> None:
    """Raise `ConfigurationError` unless these distributions are of one version."""
    if len(set(versions.values())) > 1:
        server, client = (versions[name] for name in NAMES)
        raise ConfigurationError(
            f"assent-client {client} is installed beside assent {server}, and both have the same "
            "files. assent has the client too: pip uninstall assent-client, and install assent "
            "again."
        )
