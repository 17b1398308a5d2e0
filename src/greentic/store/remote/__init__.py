"""The store on another machine: the client of a store server (reference 02, sections 7 and 20)."""

from __future__ import annotations

from greentic.store.remote.origin import Origin, chosen
from greentic.store.remote.store import RemoteStore

__all__ = ["Origin", "RemoteStore", "chosen"]
