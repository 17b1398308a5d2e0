"""Checks of an env-pack's tools before anything is done with them (reference 03, section 8.1).

A check looks and changes nothing; it ends within its bound in time and never raises.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "missing", "version_mismatch", "auth_failed", "unreachable", "probe_error"]
PROBE_SECONDS = 10.0
_VERSION = re.compile(r"(?<![\d.])v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?![\d.]*\d)")


@dataclass(frozen=True, slots=True)
class ToolCheck:
    """What a check found. `detail` says it in a person's words, `hint` what to do about it."""

    name: str
    description: str
    status: Status
    detail: str | None = None
    hint: str | None = None
    found: str | None = None
    required: str | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing is to be done."""
        return self.status == "ok"

    def document(self) -> dict[str, Any]:
        """The check as JSON: `name`, `description`, `outcome` with its `status`, what is not said left out."""
        hint = "install_hint" if self.status in {"missing", "version_mismatch"} else "recovery_hint"
        outcome = {
            "status": self.status,
            "detail": self.detail,
            "found": self.found,
            "required": self.required,
            hint: self.hint,
        }
        return {
            "name": self.name,
            "description": self.description,
            "outcome": {key: value for key, value in outcome.items() if value is not None},
        }


def binary(
    name: str, command: Sequence[str], *, at_least: str | None = None, hint: str, seconds: float = PROBE_SECONDS
) -> ToolCheck:
    """Whether `command` runs within `seconds`, and says a version of at least `at_least` (three numbers, if any)."""
    description = f"{command[0]} can be run" + (f" and is at least {at_least}" if at_least else "")
    try:
        done = subprocess.run(
            list(command), capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds, check=False
        )
    except (FileNotFoundError, PermissionError):
        return ToolCheck(name, description, "missing", f"there is no {command[0]} that can be run", hint)
    except subprocess.TimeoutExpired:
        return ToolCheck(name, description, "probe_error", f"no answer within {seconds:g} s", hint)
    except OSError as error:
        return ToolCheck(name, description, "probe_error", str(error.strerror or error), hint)
    output = (done.stdout + done.stderr).decode(errors="replace").strip()
    if done.returncode != 0:
        return ToolCheck(name, description, "probe_error", f"exit {done.returncode}: {output[:300]}", hint)
    if at_least is None:
        return ToolCheck(name, description, "ok")
    found = version_in(output)
    if found is None:
        return ToolCheck(name, description, "probe_error", f"no version in: {output[:300]}", hint)
    shown = ".".join(map(str, found))
    if found < _numbers(at_least):
        return ToolCheck(name, description, "version_mismatch", None, hint, shown, f">={at_least}")
    return ToolCheck(name, description, "ok", f"version {shown}")


def version_in(output: str) -> tuple[int, int, int] | None:
    """The first three-part version in what a tool prints; None when there is none."""
    match = _VERSION.search(output)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
