"""Readers whose machine is gone, or whose cable is cut: no word comes that they have left."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import REPOSITORY
from tests.support.waiting import PATIENCE

IN_ITS_OWN_NETWORK = ["unshare", "--net"]


def may_make_networks() -> bool:
    """Whether a process may have a network of its own here."""
    if sys.platform != "linux" or shutil.which(IN_ITS_OWN_NETWORK[0]) is None:
        return False
    tried = subprocess.run([*IN_ITS_OWN_NETWORK, "true"], capture_output=True, check=False)
    return tried.returncode == 0


def test_a_reader_that_vanishes_without_a_word_is_let_go_of(tmp_path: Path) -> None:
    if not may_make_networks():
        pytest.skip(
            "Only root of a Linux may make a network to be cut; whom the server itself cuts off is "
            "shown by test_slow_readers.py and test_keeper.py."
        )
    command = [*IN_ITS_OWN_NETWORK, sys.executable, "-m", "tests.acceptance.vanishing"]
    done = subprocess.run(
        [*command, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
