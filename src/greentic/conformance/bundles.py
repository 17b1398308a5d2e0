"""The workers that the suite drives: small programs that tell who they are, built into real bundles."""

from __future__ import annotations

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from greentic.bundles.build import build

HEALTHY = "conformance"
SICK = "conformance-sick"
LATE_SECONDS = 0.8
SICK_TIMEOUT_SECONDS = 1

_PACK = """pack_id: {name}
version: {version}
kind: application
application: {{kind: process, command: [python3, -I, -S, worker.py]}}
health: {{path: /healthz, timeout_seconds: {timeout}}}
setup:
  - {{name: greeting, type: string, default: hello}}
  - {{name: late_seconds, type: number, default: 0}}
"""

WORKER = '''"""Says who it is. A thread per connection; standard library only, so that it starts at once."""

import json, os, signal, socket, sys, threading, time

BORN = time.monotonic()
CONFIG = json.load(open(os.environ["GREENTIC_CONFIG_FILE"])) if os.environ.get("GREENTIC_CONFIG_FILE") else {}
HEALTHY = "@HEALTHY@" == "yes"
MESSAGE = "the database of the worker cannot be reached"
working = 0


def answer(method, target, headers):
    global working
    path, _, query = target.partition("?")
    if path == "/healthz":
        if not HEALTHY:
            print(MESSAGE, flush=True)
            return 503, {"why": MESSAGE}
        return (200 if time.monotonic() - BORN >= float(CONFIG.get("late_seconds") or 0) else 503), {}
    if path.endswith("/slow"):
        working += 1
        try:
            time.sleep(float(query or 1))
        finally:
            working -= 1
    names = ("revision_id", "deployment_id", "bundle_id", "customer_id", "tenant", "env_id", "bundle_version")
    told = {name: os.environ.get("GREENTIC_" + name.upper()) for name in names}
    return 200, {**told, "config": CONFIG, "pid": os.getpid(), "path": path, "working": working,
                 "host": headers.get("host"), "age": time.monotonic() - BORN, "variables": dict(os.environ)}


def serve(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b""
    with connection:
        while True:
            while b"\\r\\n\\r\\n" not in data:
                piece = connection.recv(65536)
                if not piece:
                    return
                data += piece
            head, _, data = data.partition(b"\\r\\n\\r\\n")
            first, *lines = head.decode("latin-1").split("\\r\\n")
            headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
            length = int(headers.get("content-length") or 0)
            while len(data) < length:
                data += connection.recv(65536)
            data = data[length:]
            method, target, _ = first.split(" ", 2)
            status, document = answer(method, target, headers)
            body = json.dumps(document).encode()
            start = "HTTP/1.1 %d Fine\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
            connection.sendall((start % (status, len(body))).encode() + (b"" if method == "HEAD" else body))


listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])))
listener.listen(512)


def end(*_):
    """A moment of its own: whoever says that it has ended has waited for it."""
    time.sleep(0.1)
    os._exit(0)


signal.signal(signal.SIGTERM, end)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
'''


def write(folder: Path, name: str, version: str, *, healthy: bool = True) -> Path:
    """The source of a bundle in `folder`."""
    pack = folder / "packs" / name
    pack.mkdir(parents=True)
    (folder / "bundle.yaml").write_text(f"bundle_id: {name}\nbundle_name: The driving test\nversion: {version}\n")
    timeout = 10 if healthy else SICK_TIMEOUT_SECONDS
    (pack / "pack.yaml").write_text(_PACK.format(name=name, version=version, timeout=timeout))
    (pack / "worker.py").write_text(WORKER.replace("@HEALTHY@", "yes" if healthy else "no"))
    return folder


@cache
def _scratch() -> Path:
    folder = Path(mkdtemp(prefix="greentic-conformance-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def archive(name: str, version: str = "1.0.0") -> Path:
    """The built bundle of that name and version; made once per process."""
    folder = _scratch() / f"{name}-{version}"
    source = write(folder / "source", name, version, healthy=name != SICK)
    return build(source, folder / f"{name}.gtbundle").path
