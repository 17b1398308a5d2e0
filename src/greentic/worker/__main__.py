"""Run one ASGI application of a pack: `python -m greentic.worker --app module:attribute --port N [--path FOLDER]…`.

Started by the supervisor. Exit status 78 (EX_CONFIG of sysexits.h) when the application cannot be imported.
"""

from __future__ import annotations

import argparse
import sys

from greentic.worker.asgi import ApplicationError, find, serve

EX_CONFIG = 78


def main(arguments: list[str]) -> int:
    """Import the application and serve it until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m greentic.worker")
    parser.add_argument("--app", required=True, help="module:attribute")
    parser.add_argument("--port", required=True, type=int, help="of 127.0.0.1")
    parser.add_argument("--path", action="append", default=[], help="a folder to import from, first one first")
    options = parser.parse_args(arguments)
    # In front, because a pack's own copy of a library is the one it was made with; ours are imported already.
    sys.path[:0] = options.path
    try:
        application = find(options.app)
    except ApplicationError as error:
        sys.stderr.write(f"greentic: {error}\n")
        return EX_CONFIG
    serve(application, options.port)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
