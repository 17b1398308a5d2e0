"""Where a secret is kept: its address, never its value (reference 01, section 1.5; reference 03, section 9.1).

An address has five parts: environment, tenant, team, category, name. People write the last four as a path,
`acme/_/openai/api_key`; documents write `secret://<env>/<path>`, stores `secrets://<env>/<path>`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from greentic.spec.errors import InvalidArgument
from greentic.spec.identifiers import MAX_OPAQUE, environment_id
from greentic.spec.parsing import Flag, Payload, Text

_COMPONENT = re.compile(r"[a-z0-9._-]{1,128}")
_NAME = re.compile(r"[a-z0-9_]{1,128}")
_VERSION = re.compile(r"[A-Za-z0-9._-]{1,64}")
SHARED_TEAM = "_"
"""The team of what belongs to the whole tenant."""
DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True, order=True)
class SecretAddress:
    """The address of a secret in a store. `team` is `_` for the whole tenant; `name` is in canonical form."""

    environment_id: str
    tenant: str
    team: str
    category: str
    name: str

    @property
    def path(self) -> str:
        """`<tenant>/<team>/<category>/<name>`."""
        return f"{self.tenant}/{self.team}/{self.category}/{self.name}"

    @property
    def uri(self) -> str:
        """The address as documents write it."""
        return f"secret://{self.environment_id}/{self.path}"

    @property
    def store_uri(self) -> str:
        """The address as stores write it."""
        return f"secrets://{self.environment_id}/{self.path}"

    @property
    def variable(self) -> str:
        """The environment variable that stands for it in a worker."""
        parts = (self.environment_id, self.tenant, self.team, self.category, self.name)
        return "GREENTIC_SECRET__" + "__".join(re.sub(r"[^A-Z0-9]", "_", part.upper()) for part in parts)

    @property
    def shared(self) -> SecretAddress:
        """Where a look-up goes when the team has no such secret: the whole tenant's."""
        return SecretAddress(self.environment_id, self.tenant, SHARED_TEAM, self.category, self.name)

    @classmethod
    def of_path(cls, environment: str, path: str) -> SecretAddress:
        """The address of `<tenant>/<team>/<category>/<name>` in `environment`; InvalidArgument with the reason.

        A team or name that is not in canonical form is refused, with that form: nothing is renamed silently.
        """
        parts = path.split("/")
        if len(path) > MAX_OPAQUE or len(parts) != 4:
            raise InvalidArgument(
                "a secret is addressed by four parts", next_step="write TENANT/TEAM/CATEGORY/NAME, TEAM '_' for all"
            )
        tenant, team, category, name = parts
        for part, what in ((tenant, "tenant"), (team, "team"), (category, "category")):
            _component(part, what)
        if canonical_team(team) != team:
            raise InvalidArgument(f"the team of the whole tenant is written '{SHARED_TEAM}'")
        if canonical_name(name) != name or not _NAME.fullmatch(name):
            raise InvalidArgument(
                "a secret's name holds a-z, 0-9 and '_'", next_step=f"write {canonical_name(name[:128])}"
            )
        return cls(environment_id(environment), tenant, team, category, name)

    @classmethod
    def of_uri(cls, text: str) -> SecretAddress:
        """The address in `secret://…` or `secrets://…`; InvalidArgument with the reason. The team is normalised.

        A version (`@3`) is refused: it names what a store once held, not where it is kept.
        """
        for scheme in ("secret://", "secrets://"):
            if text.startswith(scheme):
                rest = text.removeprefix(scheme)
                break
        else:
            raise InvalidArgument("a secret's address begins with secret://")
        environment, _, path = rest.partition("/")
        parts = path.split("/")
        if len(parts) != 4:
            raise InvalidArgument(
                "this address has no place in a store",
                next_step="write secret://ENV/TENANT/TEAM/CATEGORY/NAME",
            )
        name, at, version = parts[3].partition("@")
        if at:
            known = "a version" if _VERSION.fullmatch(version) else "something"
            raise InvalidArgument(f"the address names {known} after '@'; a store is asked for the newest")
        return cls.of_path(environment, "/".join((parts[0], canonical_team(parts[1]), parts[2], name)))


def canonical_team(team: str) -> str:
    """`_` for an empty team, `_` and `default` in any case; the team itself otherwise."""
    return SHARED_TEAM if team.strip().lower() in {"", SHARED_TEAM, "default"} else team


def canonical_name(text: str) -> str:
    """A secret's name as stores keep it: a-z, 0-9 and single `_` inside; `secret` when nothing is left."""
    folded = re.sub(r"[-./ ]", "_", text.lower())
    kept = re.sub(r"[^a-z0-9_]", "", folded)
    return re.sub(r"_+", "_", kept).strip("_") or "secret"


def webhook_secret(environment: str, tenant: str | None, endpoint_id: str) -> SecretAddress:
    """Where the webhook secret of a messaging endpoint is kept (reference 01, section 1.11)."""
    path = f"{tenant or DEFAULT_TENANT}/{SHARED_TEAM}/messaging-{endpoint_id.lower()}/webhook_secret"
    return SecretAddress.of_path(environment, path)


class SecretPayload(Payload):
    """A verb on the secret at `path`."""

    path: Text


class ReadSecretPayload(SecretPayload):
    """A look at a secret; `reveal` shows the value to who asks."""

    reveal: Flag = False


class WriteSecretPayload(SecretPayload):
    """A new value for the secret at `path`.

    `mark` tells two values under one idempotency key apart and nothing else: it is a keyed digest that only the store's
    own key could make. The value itself is in no payload.
    """

    mark: Text


def _component(value: str, what: str) -> None:
    if not _COMPONENT.fullmatch(value) or value in {".", ".."}:
        raise InvalidArgument(f"the {what} of a secret holds a-z, 0-9, '.', '_' and '-'")
