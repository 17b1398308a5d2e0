"""What only a store on this machine has: its audit log, its backups, its folder."""

from __future__ import annotations

from greentic.operations.context import Context
from greentic.spec.errors import NotImplementedYet
from greentic.store.files import FilesStore


def files(context: Context) -> FilesStore:
    """The files store of this context; NotImplementedYet for a store that keeps these things elsewhere."""
    if isinstance(context.store, FilesStore):
        return context.store
    raise NotImplementedYet("this verb works on the files of this machine only")
