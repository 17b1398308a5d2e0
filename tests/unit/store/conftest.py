"""A place in memory: these tests write many small files and wait for no disk."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def place():
    """A folder that does not exist yet, in memory where there is one."""
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    with TemporaryDirectory(prefix="greentic-store-", dir=memory if usable else None) as folder:
        yield Path(folder) / "place"
