"""What a data plane in the background keeps of whoever started it: nothing."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

from tests.integration.command_line import CommandLine


def test_a_pipe_of_the_caller_ends_although_the_data_plane_goes_on(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    gtc.init()
    reader, writer = os.pipe()
    words = ("op", "deploy", "--bundle", str(bundles["v1"]), "web", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "greentic.cli.main", *words],
        env=gtc.environment,
        pass_fds=(writer,),
        capture_output=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    try:
        assert done.returncode == 0, done.stderr
        assert gtc("op", "status").result["running"]
        ready, _, _ = select.select([reader], [], [], 10)
        assert ready, "the data plane still holds the caller's pipe"
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)
