"""A helpdesk assistant as an ASGI application (https://asgi.readthedocs.io), without dependencies.

GET  /healthz   answers 200 once the worker can serve
GET  /          a page to chat with; it shows which version answers
POST /message   takes {"text": "…", "session": "…"} and answers {"reply", "revision", "version"}; session is optional
GET  /events    server-sent events: who answers, then the state of the queue every second
WS   /chat      text in, the same answer as /message out

What the assistant says is in answers.py, the only file in which the versions differ.
"""

import asyncio
import html
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import answers

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

REVISION = os.environ.get("GREENTIC_REVISION_ID", "none")
NAME = os.environ.get("GREENTIC_REVISION_NAME", "local")
VERSION = os.environ.get("GREENTIC_BUNDLE_VERSION", answers.VERSION)
MOST_BODY_BYTES = 64 * 1024


def configuration() -> dict[str, Any]:
    """The answers to the setup questions, which the runtime keeps in a file of their own."""
    file = os.environ.get("GREENTIC_CONFIG_FILE")
    return json.loads(Path(file).read_text()) if file else {}


ASSISTANT = answers.Assistant(configuration().get("greeting", "Hello."))
PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
for mark, value in (("version", VERSION), ("name", NAME), ("colour", answers.COLOUR), ("greeting", ASSISTANT.greeting)):
    PAGE = PAGE.replace("{{" + mark + "}}", html.escape(value))


async def app(scope: Event, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await chat(scope, receive, send)
    else:
        await answer(scope, receive, send)


async def answer(scope: Event, receive: Receive, send: Send) -> None:
    # Behind a path prefix the router hands the path on whole; the last segment says what is asked for.
    method, path = scope["method"], "/" + scope["path"].rstrip("/").rpartition("/")[2]
    reading = method in ("GET", "HEAD")
    if path == "/message" and method == "POST":
        status, document = await message(receive)
        await reply(send, status, document)
    elif path == "/healthz" and reading:
        await reply(send, 200, {"status": "ok"})
    elif path == "/events" and method == "GET":
        await events(receive, send)
    elif path in ("/message", "/healthz", "/events"):
        await reply(send, 405, {"error": f"{path} does not take {method}"})
    elif reading:
        await write(send, 200, b"text/html; charset=utf-8", b"" if method == "HEAD" else PAGE.encode())
    else:
        await reply(send, 404, {"error": f"there is no {method} {path}"})


async def message(receive: Receive) -> tuple[int, Event]:
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
        if len(body) > MOST_BODY_BYTES:
            return 413, {"error": "the message is too long"}
    try:
        document = json.loads(body)
        return 200, said(str(document["text"]), str(document.get("session", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return 400, {"error": 'send JSON: {"text": "…"}'}


def said(text: str, session: str) -> Event:
    return {"reply": ASSISTANT.answer(text, session), "revision": REVISION, "name": NAME, "version": VERSION}


async def events(receive: Receive, send: Send) -> None:
    """Server-sent events until the client goes (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.ensure_future(disconnected(receive))
    try:
        async for name, document in news(gone):
            text = f"event: {name}\ndata: {json.dumps(document)}\n\n"
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
    finally:
        gone.cancel()
    await send({"type": "http.response.body"})


async def news(gone: "asyncio.Future[None]") -> AsyncIterator[tuple[str, Event]]:
    yield "hello", {"revision": REVISION, "version": VERSION}
    while not gone.done():
        yield "queue", {"answered": ASSISTANT.answered, "waiting": 0}
        await asyncio.wait([gone], timeout=1)


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def chat(scope: Event, receive: Receive, send: Send) -> None:
    session = f"{scope.get('client')}"
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            if not scope["path"].rstrip("/").endswith("/chat"):
                await send({"type": "websocket.close", "code": 4404})
                return
            await send({"type": "websocket.accept"})
            greeting = {"reply": ASSISTANT.greeting, "revision": REVISION, "name": NAME, "version": VERSION}
            await send({"type": "websocket.send", "text": json.dumps(greeting)})
        elif event["type"] == "websocket.receive":
            text = event.get("text") or (event.get("bytes") or b"").decode(errors="replace")
            await send({"type": "websocket.send", "text": json.dumps(said(text, session))})
        else:
            return


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": event["type"] + ".complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def reply(send: Send, status: int, document: Event) -> None:
    await write(send, status, b"application/json", json.dumps(document).encode())


async def write(send: Send, status: int, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
