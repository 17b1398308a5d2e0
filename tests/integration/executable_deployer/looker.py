"""The bench of the deployer, a program of its own: what /proc and the environment's folder say, and nothing else."""

import json
import os
import re
import shutil
import signal
import sys
import time

REVISION = "GREENTIC_REVISION_ID"


def processes(folder):
    """The processes that name the folder in an argument or a variable, or stand in it."""
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/stat") as file:
                status = file.read().rpartition(")")[2].split()
            with open(f"/proc/{entry}/cmdline", errors="replace") as file:
                arguments = file.read().split("\0")
            with open(f"/proc/{entry}/environ", errors="replace") as file:
                variables = dict(one.partition("=")[::2] for one in file.read().split("\0") if one)
            where = os.readlink(f"/proc/{entry}/cwd")
        except OSError:
            continue
        texts = [*arguments, where, *(value for name, value in variables.items() if name not in ("PWD", "OLDPWD"))]
        if status[0] not in "ZX" and any(folder in text for text in texts):
            yield entry, status, arguments, variables


def world(folder):
    found, listening = [], {}
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as file:
            for line in file.read().splitlines()[1:]:
                columns = line.split()
                if columns[3] == "0A":
                    listening[columns[9]] = f"{table} port {int(columns[1].rpartition(':')[2], 16)}"
    for pid, status, arguments, variables in processes(folder):
        owner = variables.get(REVISION)
        kind = "worker" if owner else "router" if "greentic.router" in arguments else "process"
        text = "\n".join([*arguments, *(f"{name}={value}" for name, value in variables.items())])
        found.append(thing(kind, f"{kind} {pid}", owner, f"{pid}@{status[19]}", text))
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        for inode in {link[8:-1] for link in links if link.startswith("socket:[")} & set(listening):
            found.append(thing("socket", listening.pop(inode), owner, inode, ""))
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.relpath(os.path.join(place, name), folder)
            if not path.startswith("revisions/"):
                found += record(folder, path)
    return found


def record(folder, path):
    owner = re.search(r"[0-9A-HJKMNP-TV-Z]{26}", path)
    try:
        status = os.lstat(os.path.join(folder, path))
        trace = path.startswith("logs/")
        text = ""
        if trace or status.st_mode & 0o077:
            with open(os.path.join(folder, path), errors="replace") as file:
                text = file.read()
    except OSError:
        return []
    identity = "" if trace else str(status.st_mtime_ns)
    return [thing("trace" if trace else "record", path, owner[0] if owner else None, identity, text)]


def thing(kind, name, owner, identity, text):
    return {"kind": kind, "name": name, "owner": owner, "identity": identity, "text": text}


def hidden(folder):
    """The keys that the routers sign with."""
    try:
        with open(os.path.join(folder, "run", "keys.json")) as file:
            keys = json.load(file)
    except OSError:
        return []
    return [keys["slots"], *(one["secret"] for one in keys["ring"])]


def clear(folder):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = list(processes(folder))
        if not found:
            break
        for pid, *_ in found:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)
    shutil.rmtree(folder, ignore_errors=True)


request = json.loads(sys.stdin.readline())
place = request["params"]["context"]["folder"]
answer = {"world": world, "secrets": hidden, "clear": clear}[request["method"]](place)
print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": answer}), flush=True)
