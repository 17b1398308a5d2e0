"""A deployer that is an executable, in the standard library alone: what greentic starts for each call.

It hands the call to the machine of the environment (`machine.py`), which it starts when a verb needs one.
"""

import fcntl
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PRESENT = ("warming", "ready", "draining")
START_SECONDS = 20


def say(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def main():
    line = sys.stdin.buffer.raw.readline()
    request = json.loads(line)
    method, params, folder = request["method"], request["params"], request["params"]["context"]["folder"]
    run = os.path.join(folder, "run")
    machine = connected(run)
    if machine is None:
        known, answer = without(method, params, run)
        if known:
            return say(id=request["id"], result=answer)
        machine = started(folder, run)
    machine.sendall(line)
    heard = b""
    while True:
        ready, _, _ = select.select([machine, sys.stdin.buffer.raw], [], [])
        if sys.stdin.buffer.raw in ready:
            return None  # cancelled, or nobody waits any more: the machine sees that we are gone
        piece = machine.recv(65_536)
        if not piece:
            sys.exit("the machine has died")
        heard += piece
        while b"\n" in heard:
            said, _, heard = heard.partition(b"\n")
            sys.stdout.buffer.write(said + b"\n")
            sys.stdout.buffer.flush()
            if b'"method"' not in said:
                if method == "stop":
                    ended(run)
                return None


def without(method, params, run):
    """What needs no machine that is not there."""
    if method in ("check_settings", "stage_revision"):
        return True, None
    desired = params["desired"]["environment"]
    present = [one for one in desired["revisions"] if one["lifecycle"] in PRESENT]
    if method == "stop":
        return True, False
    if method == "observe":
        revisions = {one["revision_id"]: {"revision_id": one["revision_id"], "state": "absent"} for one in present}
        return True, {"running": False, "revisions": revisions}
    if method == "plan":
        starts = [("worker", one["revision_id"]) for one in present]
        starts += [("listener", desired["host_config"]["listen_addr"]), ("router", "router-0")]
        told = ({"action": "start", "kind": kind, "name": name, "reason": "nothing runs"} for kind, name in starts)
        return True, {"changes": list(told)}
    return False, None


def connected(run):
    machine = socket.socket(socket.AF_UNIX)
    try:
        machine.connect(os.path.join(run, "machine.sock"))
    except OSError:
        return None
    return machine


def started(folder, run):
    """The machine, started unless another call does so at the same moment."""
    os.makedirs(run, mode=0o700, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        machine = connected(run)
        if machine is not None:
            return machine
        log = os.open(os.path.join(folder, "logs", "machine.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(os.path.join(HERE, "machine.py")) as source:  # our folder goes with this call
            program = source.read()
        python = [os.environ["GREENTIC_PYTHON"], "-I", "-S", "-c", program, folder]
        subprocess.Popen(
            python, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, close_fds=True, cwd="/"
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            machine = connected(run)
            if machine is not None:
                return machine
            time.sleep(0.005)
        sys.exit("the machine does not start")
    finally:
        os.close(lock)


def ended(run):
    """The machine holds a lock on its folder, which the system lets go of when it has ended."""
    lock = os.open(run, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    shutil.rmtree(run, ignore_errors=True)
    os.close(lock)


main()
