"""Authorization on files: the owner in `local`, the policy file everywhere else, nobody without one.

`<env>/policy.json` holds a `greentic.policy.v1`. Whoever owns the environment's folder may write it (the operating
system would let them anyway, and here it is audited); that is the only power the owner has by default.
"""

from __future__ import annotations

import os
from pathlib import Path

from greentic.engine.command import Command
from greentic.spec.errors import GreenticError
from greentic.spec.parsing import parse, parse_json
from greentic.spec.policy import Policy
from greentic.store import document, folders
from greentic.store.contract import Decision

FILE = "policy.json"
MAX_BYTES = 1024 * 1024
LOCAL = "local"


def load(folder: Path) -> Policy | None:
    """The policy of the environment in `folder`, None when there is none; SpecViolation for one that cannot be read."""
    path = folder / FILE
    try:
        folders.regular(path)
        with path.open("rb") as file:
            text = file.read(MAX_BYTES)
    except FileNotFoundError:
        return None
    return parse(Policy, parse_json(text, str(path)), str(path))


class PolicyAuthorizer:
    """Decides for the environments under `root`. Used as the `authorize` of a `FilesStore`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __call__(self, command: Command, actor: str) -> Decision:
        folder = folders.folder_of(self._root, command.environment_id)
        owner = _owner(folder)
        if owner is None:
            return Decision(True, "creation", "there is no such environment yet")
        if command.environment_id == LOCAL or command.noun == "policy":
            if owner == os.geteuid():
                return Decision(True, "local-only", "the actor owns the environment's folder")
            return Decision(False, "local-only", "only the owner of the environment's folder may")
        try:
            policy = load(folder)
        except GreenticError as error:
            return Decision(False, "policy", f"the policy cannot be read: {error.message}")
        if policy is None:
            return Decision(
                False,
                "policy",
                "it has no policy, and without one nothing is allowed",
                next_step=f"gtc op policy init {command.environment_id}",
            )
        from greentic.engine.authorization import customer_of, decide

        customer_id = None
        if any(grant.customers for grant in policy.grants if grant.actor == actor):
            raw = (folder / folders.DOCUMENT).read_bytes()
            record = document.decode(raw, folder / folders.DOCUMENT, command.environment_id)
            customer_id = customer_of(record.stored.environment, command)
        verdict = decide(policy, actor, command.noun, command.verb, customer_id)
        return Decision(
            verdict.allowed,
            "policy",
            verdict.reason,
            next_step=None
            if verdict.allowed
            else f"ask an owner: gtc op policy grant {command.environment_id} {actor} ROLE",
        )


def _owner(folder: Path) -> int | None:
    """The user id that owns the environment; None when there is no document yet."""
    try:
        return os.lstat(folder / folders.DOCUMENT).st_uid
    except (FileNotFoundError, NotADirectoryError):
        pass
    try:
        # A folder whose document is gone is still somebody's.
        return os.lstat(folder / folders.BACKUPS).st_uid
    except (FileNotFoundError, NotADirectoryError):
        return None
