"""One program that fills any slot but the deployer's, in Python without greentic: what a stranger would write."""

PROVIDER = '#!/bin/sh\nexec "$GREENTIC_PYTHON" -I -S -u program.py\n'
PROGRAM = r"""
import base64, fcntl, hashlib, hmac, json, os, sqlite3, sys, time

def store(folder):
    base = sqlite3.connect(os.path.join(folder, "program.db"), timeout=20, isolation_level=None)
    base.execute("CREATE TABLE IF NOT EXISTS kept (place TEXT PRIMARY KEY, value TEXT, version INTEGER, ends REAL)")
    return base

class Refused(Exception):
    def __init__(self, kind, message):
        self.kind, self.message = kind, message

def where(*parts):
    return json.dumps(parts, sort_keys=True)

def secrets(base, method, told):
    place = where("secret", told.get("address"))
    held = base.execute("SELECT value FROM kept WHERE place = ?", (place,)).fetchone()
    if method == "names":
        rows = base.execute("SELECT place, value FROM kept ORDER BY place").fetchall()
        return [{"address": json.loads(row[0])[1], "updated_at": None} for row in rows]
    if method == "get":
        if held is not None:
            print("the value is", held[0], file=sys.stderr)
        if told["address"]["name"] == "crash":
            print("dying with hunter2-in-the-dark", file=sys.stderr, flush=True)
            os._exit(3)
        return None if held is None else held[0]
    if method == "put":
        print("keeping", told["value"], file=sys.stderr)
        base.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, 0, NULL)", (place, told["value"]))
        return held is not None
    if method == "delete":
        base.execute("DELETE FROM kept WHERE place = ?", (place,))
        return held is not None
    if method == "mark":
        return hmac.new(b"key of the program", where(told).encode(), hashlib.sha256).hexdigest()
    return "a file of the program"

def state(base, method, told):
    scope, now = told["scope"], told["now"]
    base.execute("DELETE FROM kept WHERE ends <= ?", (now,))
    if method == "keys":
        rows = base.execute("SELECT place FROM kept WHERE value IS NOT NULL").fetchall()
        found = [json.loads(row[0]) for row in rows]
        return sorted(key for _, held, key in found if held == scope and key.startswith(told["prefix"]))
    place = where("state", scope, told["key"])
    base.execute("BEGIN IMMEDIATE")
    held = base.execute("SELECT value, version, ends FROM kept WHERE place = ?", (place,)).fetchone()
    there = held is not None and held[0] is not None
    try:
        if method == "get":
            return {"data": held[0], "version": held[1], "expires": held[2]} if there else None
        if told.get("expected") is not None and told["expected"] != (held[1] if there else 0):
            raise Refused("conflict", "another version is there")
        if method == "put":
            version = (held[1] if held else 0) + 1
            base.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)",
                         (place, told["data"], version, told.get("expires")))
            return version
        base.execute("UPDATE kept SET value = NULL WHERE place = ?", (place,))
        return there
    finally:
        base.execute("COMMIT")

def holds(pin, admissible, now):
    return pin["expires"] > now and pin["generation"] >= admissible.get(pin["revision_id"], float("inf"))

def pins(base, method, told):
    scope, now = where(told["scope"]), told["now"]
    base.execute("BEGIN IMMEDIATE")
    try:
        base.execute("DELETE FROM kept WHERE ends <= ?", (now,))
        if method == "counts":
            found = {}
            for value, in base.execute("SELECT value FROM kept WHERE place LIKE ? || '%'", (scope,)):
                revision = json.loads(value)["revision_id"]
                found[revision] = found.get(revision, 0) + 1
            return found
        place = scope + told["hint"]
        held = base.execute("SELECT value FROM kept WHERE place = ?", (place,)).fetchone()
        if held and holds(json.loads(held[0]), told["admissible"], now):
            return json.loads(held[0])
        if method == "lookup":
            return None
        base.execute("DELETE FROM kept WHERE place = ?", (place,))
        count = base.execute("SELECT count(*) FROM kept WHERE substr(place, 1, ?) = ?", (len(scope), scope)).fetchone()
        if count[0] >= 4096:
            return None
        base.execute("INSERT INTO kept VALUES (?, ?, 0, ?)", (place, json.dumps(told["pin"]), told["pin"]["expires"]))
        return told["pin"]
    finally:
        base.execute("COMMIT")

def answer(method, told):
    context = told.get("context") or {}
    if method == "check":
        if "place" not in told["answers"]:
            raise Refused("invalid-argument", "where? Answer 'place'")
        return None
    if method == "settings":
        return {**context["answers"], "timeout_ms": context["answers"].get("timeout_ms", 1000),
                "password": context["secrets"].get(context["answers"].get("password_ref"), "")}
    settings = context.get("settings") or {}
    if settings.get("behaviour") == "hang":
        time.sleep(3600)
    if settings.get("behaviour") == "die":
        os._exit(7)
    if method == "export":
        with open(os.path.join(settings["place"], "spans.jsonl"), "a") as file:
            file.writelines(json.dumps(span) + "\n" for span in told["spans"])
        return 0
    if method in ("find", "entries"):
        with open(os.path.join(context["folder"], "revoked.json")) as file:
            found = json.load(file)
        return found if method == "entries" else next((
            one for one in found if (one["kind"], one["subject"]) == (told["kind"], told["subject"])), None)
    folder = settings.get("place") or context["folder"]
    if folder not in bases:
        bases[folder] = store(folder)
    if "scope" not in told:
        return secrets(bases[folder], method, told)
    return (pins if method in ("lookup", "try_pin", "counts") else state)(bases[folder], method, told)

bases = {}
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    try:
        said = {"result": answer(request["method"], request["params"])}
    except Refused as error:
        said = {"error": {"code": -32000, "message": error.message, "data": {"kind": error.kind}}}
    except Exception as error:
        said = {"error": {"code": -32603, "message": repr(error)}}
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **said}), flush=True)
"""
