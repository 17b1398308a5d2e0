"""What not every store has: its audit log and backups at hand, a folder on this machine."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol, runtime_checkable

from greentic.operations.context import Context
from greentic.spec.errors import CorruptDocument, NotFound, NotImplementedYet
from greentic.store.contract import Backups, Stored, Trail
from greentic.store.files import FilesStore
from greentic.store.verification import AuditReport


@runtime_checkable
class Kept(Protocol):
    """A store that shows its audit log and its backups, wherever it keeps them."""

    def load(self, environment_id: str) -> Stored:
        """As `contract.Store`."""
        ...

    def audit(self, environment_id: str) -> Trail:
        """As `contract.ServedStore`."""
        ...

    def head(self, environment_id: str) -> bytes | None:
        """As `contract.ServedStore`."""
        ...

    def verify_audit(self, environment_id: str) -> AuditReport:
        """As `contract.ServedStore`."""
        ...

    def backups(self) -> Backups:
        """As `contract.ServedStore`."""
        ...


def kept(context: Context) -> Kept:
    """The store, when it shows its audit log and its backups; NotImplementedYet otherwise."""
    if isinstance(context.store, Kept):
        return context.store
    raise NotImplementedYet("this store shows neither its audit log nor its backups")


def trail(context: Context, environment_id: str) -> Trail:
    """The audit log of an environment, also of one whose document cannot be trusted; NotFound."""
    store = kept(context)
    if isinstance(store, FilesStore):
        if not store.artifacts(environment_id).is_dir():  # a log may outlive its document
            raise NotFound(
                f"there is no environment '{environment_id}'", next_step=f"gtc op env create {environment_id}"
            )
        return store.audit(environment_id)
    with suppress(CorruptDocument):
        store.load(environment_id)
    return store.audit(environment_id)


def files(context: Context) -> FilesStore:
    """The files store of this context; NotImplementedYet for a store that keeps these things elsewhere."""
    if isinstance(context.store, FilesStore):
        return context.store
    raise NotImplementedYet(
        "a policy is kept with the environments of one machine; on a store server its token file says who may do what",
        next_step="gtc store token create NAME --role ROLE, where the server runs",
    )
