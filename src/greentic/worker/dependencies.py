"""Install what a pack declares to need: once per (requirements, Python version), into a folder of its own.

A finished folder appears by one rename, so what is there is complete. Packs that vendor their dependencies need none of
this and install nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from greentic.envpacks.variables import passed
from greentic.spec.errors import BundleError, ProviderError, TimedOut

LIMIT_SECONDS = 600.0
_LAST_LINES = 15
_SHOWN = ("Collecting ", "Downloading ", "Installing ", "Building ", "Successfully ")
_PASSED_PREFIXES = ("PIP_", "UV_INDEX")
_PASSED = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"}
)


def folder(cache: Path, requirements: Sequence[str]) -> Path:
    """Where these requirements are installed for this Python, below `cache`."""
    version = list(sys.version_info[:3])
    identity = json.dumps([sorted(requirements), sys.implementation.cache_tag, version, sys.platform])
    return cache / hashlib.sha256(identity.encode()).hexdigest()


async def install(
    requirements: Sequence[str],
    cache: Path,
    progress: Callable[[str], None],
    operator: Mapping[str, str],
    limit_seconds: float = LIMIT_SECONDS,
) -> Path | None:
    """The folder with `requirements` installed, made when it is not there; None when there are none.

    `operator` is the caller's environment: pip gets its PIP_* and proxy settings. ProviderError with pip's last lines
    when it fails, TimedOut after `limit_seconds`, BundleError for a requirement that is an option in disguise.
    """
    if not requirements:
        return None
    for requirement in requirements:
        if requirement.lstrip().startswith("-") or "\n" in requirement:
            raise BundleError(f"'{requirement}' is not a requirement but an option of pip")
    target = folder(cache, requirements)
    unfinished = _unfinished(target)
    if unfinished is None:
        return target
    try:
        progress(f"installing {len(requirements)} declared dependencies")
        await _pip(requirements, unfinished, progress, operator, limit_seconds)
        _finish(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _unfinished(target: Path) -> Path | None:
    """A new folder beside `target` to install into; None when `target` is there."""
    if target.is_dir():
        return None
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".unfinished-", dir=target.parent))


def _finish(unfinished: Path, target: Path) -> None:
    try:
        unfinished.rename(target)
    except OSError as error:
        if not target.is_dir():  # otherwise another one installed the same meanwhile, and its folder is as good
            raise ProviderError(f"the dependencies cannot be put into {target}: {error.strerror}") from error


async def _pip(
    requirements: Sequence[str],
    target: Path,
    progress: Callable[[str], None],
    operator: Mapping[str, str],
    limit_seconds: float,
) -> None:
    environment = passed(operator) | {
        name: value for name, value in operator.items() if name.upper() in _PASSED or name.startswith(_PASSED_PREFIXES)
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "pip", "install", "--target", str(target)),
        *("--no-input", "--disable-pip-version-check", "--no-warn-script-location", "--", *requirements),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=target,
        start_new_session=True,
    )
    last: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        async with asyncio.timeout(limit_seconds):
            assert process.stdout is not None
            async for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip()
                if line:
                    last.append(line)
                if line.startswith(_SHOWN):
                    progress(line)
            status = await process.wait()
    except TimeoutError:
        raise TimedOut(
            f"installing the declared dependencies took longer than {limit_seconds:g} s",
            details={"requirements": list(requirements), "last_lines": list(last)},
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status != 0:
        raise ProviderError(
            f"the declared dependencies cannot be installed: {last[-1] if last else f'pip exited with {status}'}",
            details={"requirements": list(requirements), "exit_status": status, "last_lines": list(last)},
            next_step="check the names and the package index (PIP_INDEX_URL), or vendor the dependencies in the pack",
        )
