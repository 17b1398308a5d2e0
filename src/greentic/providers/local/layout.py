"""Where the local deployer keeps what, below an environment's folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from greentic.envpacks import calls


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one environment. `folder` is absolute."""

    folder: Path

    @property
    def run(self) -> Path:
        """State of the deployer itself; worth nothing once the runtime has been stopped."""
        return self.folder / "run"

    @property
    def lock(self) -> Path:
        """Locked (flock) by the runtime for as long as it lives."""
        return self.run / "runtime.lock"

    @property
    def information(self) -> Path:
        """Process id and start of the runtime, for people."""
        return self.run / "runtime.json"

    @property
    def desired(self) -> Path:
        """The newest recorded state that the runtime was given."""
        return self.run / "desired.json"

    @property
    def listening(self) -> Path:
        """The address last listened on, kept for when the system chose the port."""
        return self.run / "listening.json"

    @property
    def control_address(self) -> Path:
        """The path of the control socket, when it is not `control_socket`."""
        return self.run / "control.address"

    @property
    def control_socket(self) -> Path:
        """The control socket, where its path is short enough for one."""
        return self.run / "control.sock"

    @property
    def dependencies(self) -> Path:
        """Installed dependencies, by digest."""
        return self.run / "dependencies"

    @property
    def processes(self) -> Path:
        """The processes that the runtime has started."""
        return self.run / "processes.json"

    @property
    def keys(self) -> Path:
        """The key ring of cookies and preview tokens."""
        return self.folder / "router-keys.json"

    @property
    def runtime_log(self) -> Path:
        """The runtime's own log."""
        return self.folder / "logs" / "runtime.log"

    @property
    def router_log(self) -> Path:
        """The router's output."""
        return self.folder / "logs" / "router.log"

    @property
    def access_log(self) -> Path:
        """One JSON line per request, when the environment asks for it."""
        return self.folder / "logs" / "access.jsonl"

    def revision_log(self, revision_id: str) -> Path:
        """The output of a revision's worker."""
        return self.folder / "logs" / "revisions" / f"{revision_id}.log"

    def worker(self, revision_id: str) -> Path:
        """The run state of a revision's worker."""
        return self.run / "workers" / revision_id

    def configuration(self, revision_id: str) -> Path:
        """The frozen parameters as the worker reads them."""
        return self.worker(revision_id) / "config.json"

    def bundle(self, revision_id: str) -> Path:
        """The revision's unpacked bundle."""
        return self.folder / "revisions" / revision_id / "bundle"

    def pack_config(self, revision_id: str, pack_id: str) -> Path:
        """The frozen parameters of a pack as recorded."""
        return self.folder / "revisions" / revision_id / "pack-configs" / f"{pack_id}.json"

    def prepare(self) -> None:
        """Make the folders, for their owner alone."""
        for folder in (self.folder, self.run, self.folder / "logs", self.folder / "logs" / "revisions"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step, readable by its owner alone.

    Not synced to the disk: everything written so can be derived again from the store after a power failure.
    """
    with calls.making("file.write", path.name):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def remove(path: Path) -> None:
    """Remove the file or the folder at `path`; fine when it is gone."""
    with calls.making("file.remove", path.name):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
