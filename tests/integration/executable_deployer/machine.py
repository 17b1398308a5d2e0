"""The machine of one environment: workers, and greentic's router in front of them, spoken to over its control socket.

It speaks the same JSON-RPC as the provider, over a Unix socket, and dies with all that it has started.
"""

import asyncio
import base64
import contextlib
import ctypes
import datetime
import fcntl
import hmac
import json
import math
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time

FOLDER = sys.argv[1]
RUN = os.path.join(FOLDER, "run")
HOST = "127.0.0.1"
PRESENT = ("warming", "ready", "draining")
RECORDING = os.environ.get("GREENTIC_RECORDING")
PR_SET_PDEATHSIG = 1


class Refused(Exception):
    def __init__(self, kind, message, **details):
        super().__init__(message)
        self.kind, self.message, self.details = kind, message, details


@contextlib.contextmanager
def call(permission, target):
    """One call to the provider: written down, and struck as a bench asks (docs/env-packs.md)."""
    struck = None
    if RECORDING:
        file = os.open(os.path.join(RECORDING, "calls.jsonl"), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(file, "r+b") as calls:
            fcntl.flock(file, fcntl.LOCK_EX)
            number = calls.read().count(b"\n")
            calls.write(json.dumps([permission, str(target)]).encode() + b"\n")
        with contextlib.suppress(FileNotFoundError), open(os.path.join(RECORDING, "fault.json")) as fault:
            at, kind = json.load(fault)
            struck = kind if at == number else None
    if struck == "error":
        raise Refused("provider", f"{permission} {target}: failed, as the bench asked")
    if struck == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    yield
    if struck == "timeout":
        raise Refused("timeout", f"{permission} {target}: no answer, as the bench asked")


def with_us():
    """What is started dies with the machine."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def write(name, document):
    with call("file.write", name):
        path = os.path.join(RUN, name)
        with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(document, file)
        os.replace(path + ".new", path)


def random_key():
    return base64.b64encode(secrets.token_bytes(32)).decode()


def sign(text):
    return base64.urlsafe_b64encode(text).rstrip(b"=")


class Worker:
    def __init__(self, child, port, health):
        self.child, self.port, self.health = child, port, health

    async def wait(self, name):
        """Until it answers its health path; refused with its last words otherwise."""
        deadline = time.monotonic() + self.health["timeout_seconds"]
        while True:
            if await self.answers():
                return
            if self.child.poll() is not None or time.monotonic() > deadline:
                with open(log_of(name), errors="replace") as log:
                    last = ([""] + log.read().splitlines())[-1]
                raise Refused("gate-failed", f"{name} is not healthy: {last}")
            await asyncio.sleep(0.01)

    async def answers(self):
        try:
            reader, writer = await asyncio.open_connection(HOST, self.port)
            writer.write(f"GET {self.health['path']} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            line = await asyncio.wait_for(reader.readline(), 1)
            writer.close()
            return line.split()[1:2] == [b"200"]
        except (TimeoutError, OSError):
            return False


def log_of(name):
    return os.path.join(FOLDER, "logs", f"{name}.log")


class Machine:
    def __init__(self):
        self.environment, self.generation = None, -1
        self.workers, self.ended, self.served = {}, set(), None
        self.router = self.listener = self.keys = None
        self.numbers, self.answers, self.version = 0, {}, 0
        self.lock = asyncio.Lock()
        self.stopped = asyncio.Event()

    # What is recorded

    def revision(self, name):
        return next((one for one in self.environment["revisions"] if one["revision_id"] == name), None)

    def deployment(self, name):
        return next(one for one in self.environment["bundles"] if one["deployment_id"] == name)

    def split(self, deployment):
        return next((one for one in self.environment["traffic_splits"] if one["deployment_id"] == deployment), None)

    async def follow(self, desired):
        if desired["generation"] < self.generation:
            raise Refused("conflict", f"generation {self.generation} is followed already")
        first = self.environment is None
        self.environment, self.generation = desired["environment"], desired["generation"]
        self.ended &= {one["revision_id"] for one in self.environment["revisions"] if one["lifecycle"] in PRESENT}
        if first:  # the machine before may have been killed: what serves is brought back
            for one in self.environment["revisions"]:
                if one["lifecycle"] in ("ready", "draining"):
                    await self.ensure(one)

    def require_no_share(self, revision):
        split = self.split(revision["deployment_id"]) or {"entries": []}
        if any(one["revision_id"] == revision["revision_id"] and one["weight_bps"] for one in split["entries"]):
            raise Refused("conflict", "it still has a share of the traffic")

    # Workers

    async def ensure(self, revision):
        name = revision["revision_id"]
        worker = self.workers.get(name)
        if worker is None or worker.child.poll() is not None:
            self.start(revision)
        try:
            await self.workers[name].wait(name)
        except Refused:
            self.end(name)
            raise

    def start(self, revision):
        name = revision["revision_id"]
        home = os.path.join(FOLDER, "revisions", name)
        with open(os.path.join(home, "bundle", "bundle-manifest.json")) as file:
            entry = json.load(file)["entry"]
        place = os.path.join(home, "bundle", "apps", entry)
        with open(os.path.join(place, "pack.json")) as file:
            pack = json.load(file)
        with open(os.path.join(home, "pack-configs", f"{entry}.json")) as file:
            write(f"{name}.json", json.load(file)["non_secret"])
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        deployment = self.deployment(revision["deployment_id"])
        selector = deployment["route_binding"]["tenant_selector"]
        told = {
            "ENV_ID": self.environment["environment_id"],
            "REVISION_ID": name,
            "DEPLOYMENT_ID": deployment["deployment_id"],
            "BUNDLE_ID": deployment["bundle_id"],
            "BUNDLE_VERSION": revision.get("display_version", ""),
            "CUSTOMER_ID": deployment["customer_id"],
            "TENANT": selector["tenant"],
            "TEAM": selector["team"],
            "REVISION_NAME": f"v{revision['sequence']}",
            "CONFIG_FILE": os.path.join(RUN, f"{name}.json"),
        }
        variables = {f"GREENTIC_{key}": value for key, value in told.items()}
        with call("process.start", name):
            log = os.open(log_of(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            child = subprocess.Popen(
                pack["application"]["command"],
                cwd=place,
                env={"PATH": os.environ["PATH"], "HOST": HOST, "PORT": str(port), **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=with_us,
            )
            os.close(log)
            self.workers[name] = Worker(child, port, pack["health"])

    def end(self, name):
        worker = self.workers.get(name)
        if worker is not None:
            with call("process.end", name):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.child.pid, signal.SIGKILL)
                worker.child.wait()
                del self.workers[name]
        self.forget(f"{name}.json")

    def forget(self, name):
        if os.path.exists(os.path.join(RUN, name)):
            with call("file.remove", name):
                os.unlink(os.path.join(RUN, name))

    # The router

    async def open_router(self):
        if self.keys is None:
            key = {"kid": "k1", "secret": random_key()}
            self.keys = {"active": "k1", "ring": [key], "slots": random_key()}
            write("keys.json", self.keys)
        if self.listener is None:
            host, _, port = self.environment["host_config"]["listen_addr"].rpartition(":")
            with call("socket.listen", f"{host}:{port}"):
                self.listener = socket.create_server((host, int(port)), backlog=512)
        if self.router is None or self.router.poll() is not None:
            ours, theirs = socket.socketpair()
            numbers = (self.listener.fileno(), theirs.fileno())
            with call("process.start", "router"):
                self.router = subprocess.Popen(
                    [os.environ["GREENTIC_PYTHON"], "-m", "greentic.router", "--log-level", "error"]
                    + ["--listen-fd", str(numbers[0]), "--control-fd", str(numbers[1])],
                    cwd=FOLDER,
                    env={"PATH": os.environ["PATH"]},
                    stdin=subprocess.DEVNULL,
                    pass_fds=numbers,
                    start_new_session=True,
                    preexec_fn=with_us,
                )
                theirs.close()
                self.served = None
                self.answers = {}
                ours.setblocking(False)
                reader, self.control = await asyncio.open_connection(sock=ours)
                self.answers["ready"] = asyncio.get_running_loop().create_future()
                self.reading = asyncio.create_task(self.hear(reader, self.answers))
                await asyncio.wait_for(asyncio.shield(self.answers["ready"]), 20)

    async def hear(self, reader, answers):
        while True:
            try:
                size = struct.unpack(">I", await reader.readexactly(4))[0]
                message = json.loads(await reader.readexactly(size))
            except (asyncio.IncompleteReadError, OSError):
                break
            waiting = answers.get("ready" if message["type"] == "ready" else message.get("request"))
            if waiting is not None and not waiting.done() and message["type"] != "draining":
                waiting.set_result(message)
        for waiting in answers.values():
            if not waiting.done():
                waiting.set_exception(Refused("provider", "the router is gone"))

    async def ask(self, **message):
        self.numbers += 1
        number = self.numbers
        answer = self.answers[number] = asyncio.get_running_loop().create_future()
        body = json.dumps({**message, "request": number}).encode()
        self.control.write(struct.pack(">I", len(body)) + body)
        try:
            told = await answer
        except asyncio.CancelledError:
            body = json.dumps({"type": "cancel", "request": number}).encode()
            self.control.write(struct.pack(">I", len(body)) + body)
            raise
        finally:
            del self.answers[number]
        if told["type"] == "refused":
            raise Refused("provider", f"the router refused: {told['reason']}")
        return told

    async def route(self, draining=()):
        """Have the router serve what is recorded, unless it does."""
        await self.open_router()
        rows = [self.row(one, draining) for one in self.environment["bundles"] if one["status"] != "archived"]
        if rows != self.served:
            self.version += 1
            table = {"env_id": self.environment["environment_id"], "version": self.version, "deployments": rows}
            with call("router.configure", "router"):
                await self.ask(type="configure", table={**table, "keys": self.keys, "options": {}})
                self.served = rows

    def row(self, deployment, draining):
        name, binding = deployment["deployment_id"], deployment["route_binding"]
        split = self.split(name)
        entries = {one["revision_id"]: one for one in split["entries"]} if split else {}
        listed = [
            one
            for one in self.environment["revisions"]
            if one["deployment_id"] == name
            and one["lifecycle"] in ("ready", "draining")
            and one["revision_id"] in self.workers
            and one["revision_id"] not in self.ended
        ]
        emptied = {one["revision_id"] for one in listed if one["lifecycle"] == "draining"} | set(draining)
        position = {one["revision_id"]: index for index, one in enumerate(listed)}
        slots = []
        for count, index in split["slots"] if split else ():
            place = position.get(split["entries"][index]["revision_id"])
            if place is None:
                slots = []
                break
            slots.append([count, place])
        return {
            "deployment_id": name,
            "bundle_id": deployment["bundle_id"],
            "customer_id": deployment["customer_id"],
            **binding["tenant_selector"],
            "hosts": binding["hosts"],
            "path_prefixes": binding["path_prefixes"],
            "generation": split["generation"] if split else deployment.get("traffic_generation") or 0,
            "pin_seconds": self.environment["host_config"].get("pin_seconds", 86400),
            "revisions": [
                {
                    "revision_id": one["revision_id"],
                    "address": f"{HOST}:{self.workers[one['revision_id']].port}",
                    "state": "draining" if one["revision_id"] in emptied else "ready",
                    "name": f"v{one['sequence']}",
                    **promise(entries.get(one["revision_id"], {})),
                }
                for one in listed
            ],
            "slots": slots,
        }

    # The verbs

    async def stage_revision(self, desired, revision_id):
        return None

    async def check_settings(self, environment):
        return None

    async def warm_revision(self, desired, revision_id):
        await self.follow(desired)
        revision = self.revision(revision_id)
        if revision["lifecycle"] in ("draining", "archived"):
            raise Refused("conflict", f"it is {revision['lifecycle']}")
        await self.ensure(revision)

    async def drain_revision(self, desired, revision_id):
        await self.follow(desired)
        revision = self.revision(revision_id)
        self.require_no_share(revision)
        began, told = time.monotonic(), {"finished": 0, "cut": {}, "pins_cut": 0}
        if revision_id in self.workers:
            await self.route(draining={revision_id})
            with call("router.drain", revision_id):
                told = await self.ask(type="drain", revision_id=revision_id, deadline_seconds=revision["drain_seconds"])
            self.ended.add(revision_id)
            await self.route()
            self.end(revision_id)
        return {
            "revision_id": revision_id,
            "finished": told["finished"],
            "cut": told["cut"].get("requests", 0),
            "seconds": round(time.monotonic() - began, 3),
            "pins_cut": told.get("pins_cut", 0),
        }

    async def archive_revision(self, desired, revision_id):
        await self.follow(desired)
        self.require_no_share(self.revision(revision_id))
        if revision_id in self.workers:
            self.ended.add(revision_id)
            await self.route()
        self.end(revision_id)

    async def apply_traffic_split(self, desired, deployment_id):
        began = time.monotonic()
        await self.follow(desired)
        split = self.split(deployment_id)
        for entry in split["entries"] if split else ():
            if entry["weight_bps"]:
                await self.ensure(self.revision(entry["revision_id"]))
        await self.route()
        row = next(one for one in self.served if one["deployment_id"] == deployment_id)
        return {
            "deployment_id": deployment_id,
            "generation": row["generation"],
            "acknowledged": 1,
            "expected": 1,
            "milliseconds": (time.monotonic() - began) * 1000,
        }

    async def reconcile(self, desired):
        await self.follow(desired)
        wanted = [one for one in self.environment["revisions"] if one["lifecycle"] in PRESENT]
        for one in wanted:
            await self.ensure(one)
        surplus = set(self.workers) - {one["revision_id"] for one in wanted}
        self.ended |= surplus
        await self.route()
        for name in sorted(surplus):
            self.end(name)
        return await self.observe(desired)

    async def plan(self, desired):
        present = {one["revision_id"] for one in desired["environment"]["revisions"] if one["lifecycle"] in PRESENT}
        changes = [("start", "worker", one) for one in sorted(present - set(self.workers))]
        changes += [("end", "worker", one) for one in sorted(set(self.workers) - present)]
        if self.router is None:
            changes += [("start", "router", "router-0")]
        return {
            "changes": [
                {"action": action, "kind": kind, "name": name, "reason": "so it is recorded"}
                for action, kind, name in changes
            ]
        }

    async def observe(self, desired):
        running = self.router is not None and self.router.poll() is None
        names = {one["revision_id"] for one in desired["environment"]["revisions"] if one["lifecycle"] in PRESENT}
        return {
            "running": running,
            "url": f"http://{HOST}:{self.listener.getsockname()[1]}" if running else None,
            "routers": int(running),
            "generations": {one["deployment_id"]: one["generation"] for one in self.served or ()},
            "revisions": {
                name: {"revision_id": name, "state": "healthy" if name in self.workers else "absent"}
                for name in names | set(self.workers)
            },
        }

    async def preview(self, desired, revision_id, seconds):
        await self.follow(desired)
        await self.route()
        told = {"d": self.revision(revision_id)["deployment_id"], "r": revision_id, "x": int(time.time()) + seconds}
        payload = sign(json.dumps(told, separators=(",", ":")).encode())
        secret = base64.b64decode(self.keys["ring"][0]["secret"])
        return (payload + b"." + sign(hmac.digest(secret, b"preview." + payload, "sha256"))).decode()

    async def explain(self, desired, request_id):
        found = await self.ask(type="explain", request_id=request_id)
        return {"matches": [{**one, "source": "router"} for one in found["matches"]], "remembers": "the last requests"}

    async def metrics(self, desired):
        raise Refused("not-yet-implemented", "nothing is measured here")

    async def stop(self, desired):
        if self.router is not None:
            with call("process.end", "router"):
                self.router.kill()
                self.router.wait()
                self.router = None
        if self.listener is not None:
            self.listener.close()
            self.listener = None
        for name in sorted(self.workers):
            self.end(name)
        for name in sorted(set(os.listdir(RUN)) - {"machine.sock"}):
            self.forget(name)
        os.unlink(os.path.join(RUN, "machine.sock"))
        self.stopped.set()
        return True


def promise(entry):
    """Which pins hold, as the router counts them: whole seconds, in the visitor's favour."""
    told = {"since": entry.get("since") or 0}
    if entry.get("honour_until"):
        until = datetime.datetime.fromisoformat(entry["honour_until"].replace("Z", "+00:00"))
        told |= {"honour_until": math.ceil(until.timestamp()), "honour_since": entry.get("honour_since") or 0}
    return told


async def converse(machine, reader, writer):
    request = json.loads(await reader.readline())
    takes = {name: value for name, value in request["params"].items() if name not in ("protocol", "context")}
    method = request["method"]

    async def carried_out():
        verb = getattr(machine, method)
        if method in ("observe", "explain", "plan"):
            return await verb(**takes)
        async with machine.lock:
            return await verb(**takes)

    work = asyncio.create_task(carried_out())
    gone = asyncio.create_task(reader.read())
    await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not work.done():
        work.cancel()
    said = {"jsonrpc": "2.0", "id": request["id"]}
    try:
        said["result"] = await work
    except Refused as error:
        data = {"kind": error.kind, "details": error.details}
        said["error"] = {"code": -32000, "message": error.message, "data": data}
    except asyncio.CancelledError:
        said["error"] = {"code": -32800, "message": "cancelled"}
    with contextlib.suppress(OSError):
        writer.write(json.dumps(said).encode() + b"\n")
        await writer.drain()
    writer.close()


async def main():
    machine = Machine()
    fcntl.flock(os.open(RUN, os.O_RDONLY), fcntl.LOCK_EX)  # let go of by our end, which a stop waits for
    place = os.path.join(RUN, "machine.sock")
    for name in os.listdir(RUN):  # of one that was killed
        os.unlink(os.path.join(RUN, name))
    server = await asyncio.start_unix_server(
        lambda reader, writer: converse(machine, reader, writer), place, limit=1 << 25
    )
    await machine.stopped.wait()
    server.close()
    await asyncio.sleep(0.05)  # the answer to the stop is on its way


asyncio.run(main())
