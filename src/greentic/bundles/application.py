"""How a pack's application runs: a closed union, told apart by `kind`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr

_ENTRY_POINT = re.compile(
    r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
)


class Closed(BaseModel):
    """A part of a document that has the keys named here and no others, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


def _entry_point(text: str) -> str:
    if not _ENTRY_POINT.fullmatch(text):
        raise ValueError('must be "module:attribute", as in "helpdesk.main:app"')
    return text


def _requirement(text: str) -> str:
    # What begins with a letter or a digit cannot be taken for an option by an installer.
    if not re.match(r"[A-Za-z0-9]", text) or not text.isprintable():
        raise ValueError('must be a requirement, as in "starlette>=0.40"')
    return text


def inside(path: str) -> str:
    """A relative path that stays in its pack. Raises ValueError."""
    segments = path.split("/")
    if not path.isprintable() or "\\" in path or any(segment in ("", ".", "..") for segment in segments):
        raise ValueError("must be a path inside the pack, as in vendor or lib/python")
    return path


def _argument(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


class AsgiApplication(Closed):
    """A Python ASGI application (ASGI 3.0), imported by a server that the worker brings.

    - `app`: `module:attribute`.
    - `dependencies`: requirement strings (PEP 508) that must be installed; what is vendored need not be named.
    - `vendor`: folder of the pack that is put first on `sys.path`.
    """

    kind: Literal["asgi"] = "asgi"
    app: Annotated[StrictStr, AfterValidator(_entry_point)]
    dependencies: tuple[Annotated[StrictStr, AfterValidator(_requirement)], ...] = ()
    vendor: Annotated[StrictStr, AfterValidator(inside)] | None = None


class ProcessApplication(Closed):
    """Any executable that listens on `$PORT` (https://12factor.net/port-binding).

    `command`: program and arguments; `$PORT` and `${PORT}` in an argument are replaced when it is launched, and the
    process has PORT in its environment too. A program with a slash is looked for in the pack, any other on the PATH.
    """

    kind: Literal["process"] = "process"
    command: Annotated[tuple[Annotated[StrictStr, AfterValidator(_argument)], ...], Field(min_length=1)]

    @property
    def program(self) -> str | None:
        """The program as a path inside the pack; None when it is found on the PATH or is absolute."""
        program = self.command[0]
        return program.removeprefix("./") if "/" in program and not program.startswith("/") else None


Application = Annotated[AsgiApplication | ProcessApplication, Field(discriminator="kind")]


def _health_path(path: str) -> str:
    if not path.startswith("/") or path.startswith("//") or not re.fullmatch(r"[!-~]+", path) or "#" in path:
        raise ValueError("must be an absolute path of a URL, as in /healthz")
    return path


class Health(Closed):
    """How a worker says that it can serve: `path` answers 2xx within `timeout_seconds` (1 to 3600) of its start."""

    path: Annotated[StrictStr, AfterValidator(_health_path)] = "/healthz"
    timeout_seconds: Annotated[StrictInt, Field(ge=1, le=3600)] = 30
