"""A worker as an ASGI application (https://asgi.readthedocs.io), without dependencies.

GET /healthz     answers 200 once the worker can serve
GET /            says which revision this is
POST /message    takes {"text": "…"} and answers {"reply": "…"}
"""

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Answer = tuple[int, dict[str, Any]]

IDENTITY = ("GREENTIC_ENV_ID", "GREENTIC_DEPLOYMENT_ID", "GREENTIC_REVISION_ID", "GREENTIC_BUNDLE_ID")
MOST_BODY_BYTES = 64 * 1024


async def app(scope: Event, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        status, document = await answer(scope["method"], scope["path"], receive)
        await reply(send, status, document)


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": event["type"] + ".complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def answer(method: str, path: str, receive: Receive) -> Answer:
    if path == "/healthz" and method in ("GET", "HEAD"):
        return 200, {"status": "ok"}
    if path == "/" and method in ("GET", "HEAD"):
        return 200, identity()
    if path == "/message" and method == "POST":
        return await message(receive)
    return 404, {"error": f"there is no {method} {path}"}


async def message(receive: Receive) -> Answer:
    body = b""
    more = True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
        if len(body) > MOST_BODY_BYTES:
            return 413, {"error": "the message is too long"}
    try:
        text = json.loads(body)["text"]
    except (ValueError, KeyError, TypeError):
        return 400, {"error": 'send JSON: {"text": "…"}'}
    return 200, {"reply": f"You said: {text}", **identity()}


def identity() -> dict[str, Any]:
    return {name.lower(): os.environ.get(name) for name in IDENTITY}


async def reply(send: Send, status: int, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
