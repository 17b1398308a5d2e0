"""Authorization on files: the owner in `local`, the policy file everywhere else, nobody without one.

`<env>/policy.json` holds a `greentic.policy.v1`. Whoever owns the environment's folder may write it (the operating
system would let them anyway, and here it is audited); that is the only power the owner has by default.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from greentic.engine.command import Command
from greentic.spec import verbs
from greentic.spec.errors import Denied, GreenticError
from greentic.spec.parsing import parse, parse_json
from greentic.spec.policy import Policy
from greentic.store import document, folders
from greentic.store.contract import Decision

FILE = "policy.json"
MAX_BYTES = 1024 * 1024
LOCAL = "local"


def load(folder: Path) -> Policy | None:
    """The policy of the environment in `folder`, None when there is none; SpecViolation for one that cannot be read.

    Denied for one that another user than the environment's owner (or root) has or may write: it could grant anything.
    """
    path = folder / FILE
    try:
        folders.regular(path)
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            _demand_private(path, os.fstat(file.fileno()), _owner(folder))
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
            what = "trusted" if isinstance(error, Denied) else "read"
            return Decision(False, "policy", f"the policy cannot be {what}: {error.message}", next_step=error.next_step)
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
        verdict = decide(policy, actor, *verbs.permission(command.noun, command.verb), customer_id)
        return Decision(
            verdict.allowed,
            "policy",
            verdict.reason,
            next_step=None
            if verdict.allowed
            else f"ask an owner: gtc op policy grant {command.environment_id} {actor} ROLE",
        )


def _demand_private(path: Path, told: os.stat_result, owner: int | None) -> None:
    if told.st_uid not in {0, os.geteuid() if owner is None else owner}:
        raise Denied(
            f"{path} belongs to another user (uid {told.st_uid}) than the environment",
            next_step=f"read what it grants, then: chown {os.geteuid() if owner is None else owner} {path}",
        )
    if told.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Denied(
            f"{path} can be written by others (mode {stat.S_IMODE(told.st_mode):04o})",
            next_step=f"read what it grants, then: chmod 600 {path}",
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
