"""Find an ASGI application by its name and serve it.

Everything the server needs is imported here, before a pack's folders come on the path: a pack may carry its own copies
of libraries without standing in for the server's.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from typing import Any

import httptools  # noqa: F401
import uvicorn
import uvicorn.lifespan.on
import uvicorn.protocols.http.httptools_impl
import uvicorn.protocols.websockets.auto
import uvloop  # noqa: F401

HOST = "127.0.0.1"
Application = Callable[..., Any]
KEEP_ALIVE_SECONDS = 75
"""Longer than the router keeps an idle connection, so that it is never the worker that closes one in use."""
GRACE_SECONDS = 4
"""What requests in flight get after SIGTERM; the supervisor kills after five."""


class ApplicationError(Exception):
    """The application cannot be found; the message is one line for a person."""


def find(name: str) -> Application:
    """The application `module:attribute`. ApplicationError says what is missing; a traceback goes to stderr first when
    the application's own code raised."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise ApplicationError(f"the application '{name}' is not of the form module:attribute")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ApplicationError(
                f"the application '{name}' cannot be imported: the pack has no module '{error.name}'"
            ) from None
        traceback.print_exc()
        raise ApplicationError(
            f"the application '{name}' cannot be imported: it needs a module '{error.name}', which is neither vendored "
            "nor declared as a dependency"
        ) from None
    except BaseException as error:
        traceback.print_exc()
        reason = str(error).partition("\n")[0]
        raise ApplicationError(
            f"the application '{name}' cannot be imported: {type(error).__name__}{': ' if reason else ''}{reason}"
        ) from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ApplicationError(
                f"the application '{name}' cannot be found: {module_name} has no attribute '{attribute}'"
            )
        found = getattr(found, part)
    if not callable(found):
        raise ApplicationError(f"the application '{name}' is not callable: it is of the type {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def serve(application: Application, port: int) -> None:
    """Serve `application` on `port` of 127.0.0.1 until SIGTERM; requests in flight then get GRACE_SECONDS."""
    uvicorn.run(
        application,
        host=HOST,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="auto",
        lifespan="auto",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        use_colors=False,
    )
