"""The bytecode of the test files, made once before the workers of a run start. In a new clone each of
them would make all of it for itself, at the same time as the others."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from _pytest.assertion import assertstate_key, rewrite

HERE = Path(__file__).parents[1]


def write_bytecode(config: pytest.Config) -> None:
    """Write that of the files whose asserts pytest rewrites, in as many processes as there are
    processors."""
    if sys.dont_write_bytecode or "fork" not in multiprocessing.get_all_start_methods():
        return
    files = sorted([*HERE.rglob("conftest.py"), *HERE.rglob("test_*.py")])
    missing = [file for file in files if not _cached(file).exists()]
    forks = multiprocessing.get_context("fork")
    count = min(os.cpu_count() or 1, len(missing))
    writers = [forks.Process(target=_write, args=(config, missing[n::count])) for n in range(count)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()


def _cached(file: Path) -> Path:
    """Where pytest looks for its bytecode of the file."""
    return rewrite.get_cache_dir(file) / f"{file.stem}{rewrite.PYC_TAIL}"


def _write(config: pytest.Config, files: Sequence[Path]) -> None:
    for file in files:
        cached = _cached(file)
        if rewrite.try_makedirs(cached.parent):
            source_hash, code = rewrite._rewrite_test(file, config)
            rewrite._write_pyc(config.stash[assertstate_key], code, source_hash, cached)
