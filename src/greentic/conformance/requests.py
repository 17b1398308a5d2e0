"""Real requests to the data plane under test, over connections that are kept: a visitor per request, unless it says
otherwise by the headers that it sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from greentic.conformance.checking import Failed

ANSWER_SECONDS = 20.0
MAX_BODY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: `headers` by lower-case name, `cookies` as `name=value` pairs, `told` the body's JSON or None."""

    status: int
    headers: Mapping[str, str]
    cookies: tuple[str, ...]
    told: Any

    @property
    def revision(self) -> str | None:
        """The revision that says it answered; None when no worker of the suite did."""
        return self.told.get("revision_id") if self.status == 200 and isinstance(self.told, dict) else None


class Client:
    """A connection to the environment's URL, opened when needed and kept while it can be."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str, host: str, **headers: str) -> Answer:
        """One GET; underscores in header names stand for hyphens. Failed when nothing sensible comes back."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await self._open()
                writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
                return await self._answer(reader)
        except (TimeoutError, OSError, EOFError, ValueError) as error:
            await self.close()
            raise Failed(f"no answer to GET {path} of {host}: {type(error).__name__} {error}".rstrip()) from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        return self._streams

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        headers = dict(fields)
        status = int(first.split(" ", 2)[1])
        length = int(headers.get("content-length", "0"))
        if length > MAX_BODY_BYTES:
            raise ValueError("a body of more than 1 MiB")
        body = await reader.readexactly(length)
        if headers.get("connection", "").lower() == "close":
            await self.close()
        cookies = tuple(value.partition(";")[0] for name, value in fields if name == "set-cookie")
        try:
            told = json.loads(body) if body else None
        except ValueError:
            told = None
        return Answer(status, headers, cookies, told)
