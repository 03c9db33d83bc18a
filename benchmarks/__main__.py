"""`python -m benchmarks` prints every figure, and `python -m benchmarks server` only those of one
module.

It is a report, not a test, so it always exits with 0: a missed target is printed, and so is a part
that could not be measured.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from importlib.util import find_spec

from assent.config.logging import configure_logging

PARTS = (
    "tokens",
    "storage",
    "log",
    "checkpoints",
    "runs",
    "recovery",
    "server",
    "paced",
    "readers",
    "dialects",
    "access",
    "web",
)


def main(wanted: list[str]) -> None:
    """Run these parts, or all."""
    there = [part for part in PARTS if find_spec(f"benchmarks.{part}")]
    if unknown := [part for part in wanted if part not in there]:
        sys.exit(f"There is no benchmark '{unknown[0]}'. There are: {', '.join(there)}.")
    # The engine's own lines do not belong into the report.
    configure_logging("console", "warning")
    for part in wanted or there:
        print(f"── {part} ──", flush=True)
        try:
            importlib.import_module(f"benchmarks.{part}").main()
        except Exception:
            traceback.print_exc()
            print(f"The benchmark '{part}' could not be measured.", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
