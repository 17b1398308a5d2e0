"""The answers of `acme.sessions.example`, and the settings of the routers. See `greentic.envpacks.sessions`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from greentic.envpacks.sessions import SessionsContext
from greentic.spec.errors import InvalidArgument


class ExampleSessions:
    """See `greentic.envpacks.sessions.Sessions`."""

    def check(self, environment_id: str, answers: Mapping[str, Any]) -> None:
        """Refuse answers that could never work; the database need not be there yet."""
        file = answers.get("file")
        if set(answers) != {"file"} or not isinstance(file, str) or not Path(file).is_absolute():
            raise InvalidArgument(
                "the only answer is 'file', an absolute path", next_step="--config FILE with file: /…"
            )

    def settings(self, context: SessionsContext) -> Mapping[str, Any]:
        """What the routers open the store with. A password would be looked up by `context.secret`."""
        self.check(context.environment_id, context.answers)
        return {"file": context.answers["file"]}
