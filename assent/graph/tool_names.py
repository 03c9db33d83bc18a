"""The names of tools, as options give them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from assent.core.errors import ConfigurationError


def check_tool_names(option: str, names: Iterable[object], tools: Collection[str]) -> None:
    """Raise `ConfigurationError` if an option names a tool that the agent does not have."""
    unknown = sorted(str(name) for name in set(names) - set(tools))
    if unknown:
        raise ConfigurationError(
            f"{option}= names the tool '{unknown[0]}', and the agent has no such tool. "
            f"It has: {', '.join(sorted(tools)) or 'none'}."
        )
