"""What an executable says, made fit to be shown: without control characters, cut to size, and without secrets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from greentic.envpacks.deployer import Progress
from greentic.envpacks.wire import error_from
from greentic.spec.errors import GreenticError, ProviderError

LOGGED_BYTES: Final = 1024 * 1024
"""Bytes of standard error that one process leaves in the log, and of the log before it is begun anew."""
LAST_LINES: Final = 20
LINE_CHARACTERS: Final = 400
DETAIL_BYTES: Final = 64 * 1024
METHOD_NOT_FOUND: Final = -32601
REFUSED: Final = -32000
"""The code of an error of the contract, which stands in `data`."""

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a0-\u200d\u2010-\u2027\u2030-\u2065\u2070-\ud7ff\uf900-\U0010ffff]")
_SHORTEST_HIDDEN = 4
_WITHHELD = "(what it said is left out: it was asked for a secret, which may stand there)"


class Heard:
    """Hears one process. `name` is what errors call it, `log` takes its standard error, `hidden` is shown nowhere.

    `withheld`: the process is asked for something secret. Nothing of its standard error is shown until `hide` has named
    that, and nothing at all when it never does.
    """

    def __init__(self, name: str, log: Path | None, hidden: Iterable[str] = (), *, withheld: bool = False) -> None:
        self.name = name
        self.log = log
        self._hidden: list[str] = []
        self._add(hidden)
        self._withheld = withheld
        self._waiting: deque[bytes] = deque(maxlen=LAST_LINES)
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._descriptor: int | None = None
        self._left = LOGGED_BYTES

    def hide(self, *texts: str) -> None:
        """Show `texts` nowhere from here on; and show what was withheld until now."""
        self._add(texts)
        self._withheld = False
        waiting, self._waiting = list(self._waiting), deque(maxlen=LAST_LINES)
        self._keep(waiting)

    def clean(self, text: object, limit: int = LINE_CHARACTERS) -> str:
        """`text` as it may be shown."""
        found = text if isinstance(text, str) else json.dumps(text)
        for secret in self._hidden:
            found = found.replace(secret, "[hidden]")
        found = _UNPRINTABLE.sub("\ufffd", found.replace("\t", " ").replace("\n", " "))
        return found if len(found) <= limit else found[:limit] + "…"

    def say(self, params: object, progress: Progress) -> None:
        """One line of progress."""
        message = params.get("message") if isinstance(params, dict) else None
        if isinstance(message, str) and not self._withheld:
            progress(self.clean(message))

    def error(self, document: object, method: str, evidence: dict[str, Any]) -> GreenticError:
        """The error that it answered `method` with."""
        found = document if isinstance(document, dict) else {}
        message = self.clean(found.get("message", "it gave no reason"), 4_000)
        data = found.get("data")
        if found.get("code") == METHOD_NOT_FOUND:
            return ProviderError(f"{self.name} does not know {method}", next_step="install a newer release of it")
        if found.get("code") != REFUSED or not isinstance(data, dict):
            # An accident's own words may hold anything; those of an error of the contract were chosen.
            said = _WITHHELD if self._withheld else message
            return ProviderError(f"{self.name} failed to {method}: {said}", details=evidence)
        shown: dict[str, Any] = {"kind": data.get("kind"), "message": message}
        if isinstance(data.get("details"), dict):
            shown["details"] = self._details(data["details"])
        if isinstance(data.get("next_step"), str):
            shown["next_step"] = self.clean(data["next_step"], 1_000)
        return error_from(shown, self.name)

    def evidence(self) -> dict[str, Any]:
        """The last lines of its standard error, for the details of an error."""
        lines = [_WITHHELD] if self._withheld and self._waiting else list(self._last)
        return {"stderr": lines, **({} if self.log is None else {"log": str(self.log)})}

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Read standard error to its end: the last lines are kept, the first LOGGED_BYTES go to the log."""
        partial = b""
        with self._opened():
            while piece := await reader.read(65_536):
                *lines, partial = (partial + piece).split(b"\n")
                if len(partial) > 4 * LINE_CHARACTERS:
                    lines, partial = [*lines, partial], b""
                self._keep(lines)
            self._keep([partial] if partial else [])

    def _add(self, texts: Iterable[str]) -> None:
        parts = {part for text in texts for part in (text, json.dumps(text)[1:-1], *text.splitlines())}
        # Longest first, or a part of a secret would be left where another begins alike.
        parts.update(self._hidden)
        self._hidden = sorted((part for part in parts if len(part) >= _SHORTEST_HIDDEN), key=len, reverse=True)

    def _details(self, details: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps(details, ensure_ascii=False)
        if len(text.encode(errors="replace")) > DETAIL_BYTES:
            return {"left_out": f"more than {DETAIL_BYTES} bytes"}
        cleaned: dict[str, Any] = self._cleaned(details)
        return cleaned

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.clean(key): self._cleaned(member) for key, member in value.items()}
        if isinstance(value, list):
            return [self._cleaned(member) for member in value]
        return self.clean(value, 4_000) if isinstance(value, str) else value

    def _keep(self, lines: list[bytes]) -> None:
        if self._withheld:
            self._waiting.extend(lines)
            return
        for line in lines[-LAST_LINES:] if self._left <= 0 else lines:
            text = self.clean(line.decode(errors="replace").rstrip("\r"))
            self._last.append(text)
            if self._descriptor is not None and self._left > 0:
                data = f"{text}\n".encode()
                self._left -= len(data)
                note = b"" if self._left > 0 else b"(more was said by this process; it is left out)\n"
                with contextlib.suppress(OSError):
                    os.write(self._descriptor, data + note)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        if self.log is not None:
            with contextlib.suppress(OSError):
                self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if self.log.exists() and self.log.stat().st_size > LOGGED_BYTES:
                    self.log.replace(self.log.with_name(self.log.name + ".1"))
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._descriptor = os.open(self.log, flags, 0o600)
        try:
            yield
        finally:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)
