"""The registry of verbs: each verb that changes an environment is declared here once.

Routes, remote clients, the role table, `--schema` and the audit derive from it; a test holds it against the transitions
of the engine. Nothing heavy is imported: a command line can list every verb without loading the documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from greentic.spec.errors import NotFound

if TYPE_CHECKING:
    from greentic.spec.parsing import Payload

_PAYLOADS = "greentic.spec.payloads"
_BINDINGS = "greentic.spec.bindings"
_SCHEDULE = "greentic.spec.schedule_payloads"
_ENDPOINTS = "greentic.spec.endpoints"
_MERGING = "greentic.spec.merging"
_CONFIGURATION = "greentic.spec.configuration"
_TRUST = "greentic.spec.trust_root"


ENVIRONMENT = "/environments/{environment_id}"


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path on a store server; names in braces stand for one segment each."""

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: what it is asked, what it needs and how it can be refused.

    `request` is the dotted name of its payload (`module:class`), loaded by `payload()`.
    `mutates`: it changes the environment, so it needs a lock, an idempotency key and an audit entry.
    `precondition`: a caller may (remotely: must) name the generation or etag that it saw; creation has none.
    `permission` is what an actor must hold, `noun:verb`; who may move the dial may also hold and abort a schedule.
    `errors` are the kinds with which the engine itself refuses a well-formed request (`spec.errors`); every verb can in
    addition fail while its request is read (`answers-parse`, `invalid-argument`) or in the store.
    `internal`: a step of a longer verb, never offered to people.
    `route` is where the contract A8 has the verb on a store server; `path` is where ours has every verb.
    """

    noun: str
    verb: str
    summary: str
    request: str
    mutates: bool
    precondition: bool
    permission: str
    errors: tuple[str, ...]
    internal: bool = False
    route: Route | None = None

    @property
    def path(self) -> str:
        """The path at which a store server takes this verb in our own words, to POST to; A8 has none for some."""
        return f"{ENVIRONMENT}/verbs/{self.noun}/{self.verb}"

    @property
    def name(self) -> str:
        """The verb as people write it: `traffic set`."""
        return f"{self.noun} {self.verb}"

    def payload(self) -> type[Payload]:
        """The payload type; imports the documents."""
        module, _, member = self.request.partition(":")
        found: type[Payload] = getattr(import_module(module), member)
        return found


def _verb(
    name: str,
    request: str,
    summary: str,
    *errors: str,
    permission: str | None = None,
    precondition: bool = True,
    internal: bool = False,
    module: str = _PAYLOADS,
    route: str | None = None,
) -> Verb:
    """`route` is a method and what follows the environment's path; a path that begins with `/` stands by itself."""
    noun, _, verb = name.partition(" ")
    method, _, rest = (route or "").partition(" ")
    path = rest if rest.startswith("/") else f"{ENVIRONMENT}/{rest}".rstrip("/")
    return Verb(
        noun=noun,
        verb=verb,
        summary=summary,
        request=f"{module}:{request}",
        mutates=True,
        precondition=precondition,
        permission=permission or f"{noun}:{verb}",
        errors=errors,
        internal=internal,
        route=Route(method, path) if route else None,
    )


VERBS: tuple[Verb, ...] = (
    _verb(
        "env create",
        "CreateEnvironmentPayload",
        "Create an environment",
        "conflict",
        "spec",
        precondition=False,
        route="POST /environments",
    ),
    _verb(
        "env update",
        "UpdateEnvironmentPayload",
        "Change an environment's name and host settings",
        "not-found",
        "spec",
        route="PATCH",
    ),
    _verb(
        "env seed",
        "MigrateSeedPayload",
        "Begin an environment when there is none",
        "spec",
        permission="env:create",
        internal=True,
        module=_MERGING,
    ),
    _verb(
        "env migrate-bindings",
        "MigrateMergePayload",
        "Take over bindings of another environment where there are none",
        "not-found",
        "spec",
        module=_MERGING,
        route="POST migrate-bindings",
    ),
    _verb(
        "config set",
        "SetConfigPayload",
        "Set or clear host settings",
        "not-found",
        "spec",
        module=_CONFIGURATION,
    ),
    _verb(
        "changes apply",
        "ApplyChangesPayload",
        "Carry out several verbs as one change, all of them or none",
        "not-found",
        "conflict",
        "spec",
        "gate-failed",
        module="greentic.spec.changes",
    ),
    _verb(
        "trust-root bootstrap",
        "TrustOperatorKeyPayload",
        "Trust the operator key",
        "not-found",
        "trust-root",
        module=_TRUST,
        route="POST trust-root/bootstrap",
    ),
    _verb(
        "trust-root seed",
        "TrustOperatorKeyPayload",
        "Trust the operator key in an environment that never had a trust root",
        "not-found",
        module=_TRUST,
        route="POST trust-root/seed",
    ),
    _verb(
        "trust-root add",
        "AddTrustedKeyPayload",
        "Trust a public key",
        "not-found",
        "trust-root",
        module=_TRUST,
        route="POST trust-root/keys",
    ),
    _verb(
        "trust-root remove",
        "RemoveTrustedKeyPayload",
        "Trust a key no more, for good",
        "not-found",
        "trust-root",
        module=_TRUST,
        route="DELETE trust-root/keys/{key_id}",
    ),
    _verb(
        "env-packs add",
        "AddPackBindingPayload",
        "Fill an empty capability slot with an env-pack",
        "not-found",
        "conflict",
        "spec",
        module=_BINDINGS,
        route="POST packs",
    ),
    _verb(
        "env-packs update",
        "UpdatePackBindingPayload",
        "Replace the env-pack of a slot, its version or its answers",
        "not-found",
        "conflict",
        "spec",
        module=_BINDINGS,
        route="PATCH packs/{slot}",
    ),
    _verb(
        "env-packs remove",
        "RemovePackBindingPayload",
        "Empty a capability slot",
        "not-found",
        "spec",
        module=_BINDINGS,
        route="DELETE packs/{slot}",
    ),
    _verb(
        "env-packs rollback",
        "RollbackPackBindingPayload",
        "Bring back an earlier env-pack of a slot",
        "not-found",
        "conflict",
        "spec",
        module=_BINDINGS,
        route="POST packs/{slot}/rollback",
    ),
    _verb(
        "extensions add",
        "AddExtensionPayload",
        "Bind an extension",
        "not-found",
        "conflict",
        "spec",
        module=_BINDINGS,
        route="POST extensions",
    ),
    _verb(
        "extensions update",
        "UpdateExtensionPayload",
        "Replace the version or the answers of an extension",
        "not-found",
        "conflict",
        "spec",
        module=_BINDINGS,
        route="PATCH extensions",
    ),
    _verb(
        "extensions remove",
        "RemoveExtensionPayload",
        "Take an extension out",
        "not-found",
        "spec",
        module=_BINDINGS,
        route="DELETE extensions",
    ),
    _verb(
        "extensions rollback",
        "RollbackExtensionPayload",
        "Bring back an earlier binding of an extension",
        "not-found",
        "conflict",
        "spec",
        module=_BINDINGS,
        route="POST extensions/rollback",
    ),
    _verb(
        "bundles add",
        "AddDeploymentPayload",
        "Deploy a bundle for a customer, without traffic yet",
        "not-found",
        "conflict",
        "spec",
        route="POST bundles",
    ),
    _verb(
        "bundles update",
        "UpdateDeploymentPayload",
        "Change a deployment's status, routes, shares or parameters",
        "not-found",
        "conflict",
        "spec",
        route="PATCH bundles/{deployment_id}",
    ),
    _verb(
        "bundles remove",
        "RemoveDeploymentPayload",
        "Remove a deployment that has no traffic and only archived revisions",
        "not-found",
        "conflict",
        route="DELETE bundles/{deployment_id}",
    ),
    _verb(
        "revisions stage",
        "StageRevisionPayload",
        "Record a new revision, frozen, without starting it",
        "not-found",
        "conflict",
        "spec",
        route="POST revisions",
    ),
    _verb(
        "revisions begin-warm",
        "RevisionPayload",
        "Mark a staged revision as warming",
        "not-found",
        "conflict",
        permission="revisions:warm",
        internal=True,
    ),
    _verb(
        "revisions warm",
        "WarmRevisionPayload",
        "Start a revision and make it ready once its health gate passes",
        "not-found",
        "conflict",
        "gate-failed",
        route="POST revisions/{revision_id}/warm",
    ),
    _verb(
        "revisions retry",
        "RevisionPayload",
        "Stage a failed or inactive revision again",
        "not-found",
        "conflict",
    ),
    _verb(
        "revisions drain",
        "RevisionPayload",
        "Let a revision without traffic finish what it has in flight",
        "not-found",
        "conflict",
        route="POST revisions/{revision_id}/drain",
    ),
    _verb(
        "revisions complete-drain",
        "RevisionPayload",
        "Mark a drained revision as inactive",
        "not-found",
        "conflict",
        permission="revisions:drain",
        internal=True,
    ),
    _verb(
        "revisions archive",
        "RevisionPayload",
        "Retire a revision without traffic for good",
        "not-found",
        "conflict",
        route="POST revisions/{revision_id}/archive",
    ),
    _verb(
        "traffic set",
        "SetTrafficSplitPayload",
        "Move the dial: give each ready revision its share",
        "not-found",
        "invalid-argument",
        "conflict",
        "spec",
        route="POST traffic",
    ),
    _verb(
        "traffic rollback",
        "RollbackTrafficSplitPayload",
        "Restore an earlier split with its identical slot table",
        "not-found",
        "conflict",
        route="POST traffic/rollback",
    ),
    _verb(
        "traffic clear",
        "ClearTrafficSplitPayload",
        "Take all traffic away from a deployment",
        "not-found",
        "conflict",
    ),
    _verb(
        "traffic begin-schedule",
        "BeginSchedulePayload",
        "Move the dial in steps with gates between them: record the schedule and make its first step live",
        "not-found",
        "invalid-argument",
        "conflict",
        "spec",
        permission="traffic:set",
        internal=True,
        module=_SCHEDULE,
    ),
    _verb(
        "traffic advance",
        "AdvanceSchedulePayload",
        "Make the next step of a schedule live",
        "not-found",
        "conflict",
        permission="traffic:set",
        internal=True,
        module=_SCHEDULE,
    ),
    _verb(
        "traffic finish",
        "FinishSchedulePayload",
        "End a schedule whose last step has passed its gates",
        "not-found",
        "conflict",
        permission="traffic:set",
        internal=True,
        module=_SCHEDULE,
    ),
    _verb(
        "traffic pause",
        "PauseSchedulePayload",
        "Hold a schedule at the step where it is",
        "not-found",
        "conflict",
        permission="traffic:set",
        module=_SCHEDULE,
    ),
    _verb(
        "traffic resume",
        "ResumeSchedulePayload",
        "Go on with a schedule that is paused, or whose command has ended",
        "not-found",
        "conflict",
        permission="traffic:set",
        module=_SCHEDULE,
    ),
    _verb(
        "traffic abort",
        "AbortSchedulePayload",
        "End a schedule and restore the split from before it",
        "not-found",
        "conflict",
        permission="traffic:set",
        module=_SCHEDULE,
    ),
    _verb(
        "messaging.endpoint add",
        "AddMessagingEndpointPayload",
        "Add a chat channel",
        "not-found",
        "conflict",
        "spec",
        "not-yet-implemented",
        module=_ENDPOINTS,
        route="POST messaging",
    ),
    _verb(
        "messaging.endpoint link-bundle",
        "LinkMessagingBundlePayload",
        "Let a chat channel reach a deployed bundle",
        "not-found",
        "spec",
        module=_ENDPOINTS,
        route="POST messaging/{endpoint_id}/link",
    ),
    _verb(
        "messaging.endpoint unlink-bundle",
        "UnlinkMessagingBundlePayload",
        "Let a chat channel reach a bundle no more",
        "not-found",
        "conflict",
        "spec",
        module=_ENDPOINTS,
        route="POST messaging/{endpoint_id}/unlink",
    ),
    _verb(
        "messaging.endpoint set-welcome-flow",
        "SetMessagingWelcomeFlowPayload",
        "Greet new conversations with a flow",
        "not-found",
        "spec",
        module=_ENDPOINTS,
        route="POST messaging/{endpoint_id}/welcome-flow",
    ),
    _verb(
        "messaging.endpoint clear-welcome-flow",
        "ClearMessagingWelcomeFlowPayload",
        "Greet new conversations no more",
        "not-found",
        "spec",
        module=_ENDPOINTS,
    ),
    _verb(
        "messaging.endpoint remove",
        "RemoveMessagingEndpointPayload",
        "Remove a chat channel",
        "not-found",
        "spec",
        module=_ENDPOINTS,
        route="DELETE messaging/{endpoint_id}",
    ),
    _verb(
        "messaging.endpoint rotate-webhook-secret",
        "RotateMessagingWebhookSecretPayload",
        "Record a new webhook secret of a chat channel",
        "not-found",
        "spec",
        "not-yet-implemented",
        module=_ENDPOINTS,
        route="POST messaging/{endpoint_id}/rotate-secret",
    ),
)
"""Every verb, in the order of a deployment's life."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a store server does beside carrying out verbs: what is read, and what concerns the store itself.

    `changes`: it needs an idempotency key, is audited under `noun` and `verb`, and is closed to those who only read.
    `of_a8`: the contract A8 has it too. `health`: answered to everybody.
    """

    noun: str
    verb: str
    summary: str
    route: Route
    changes: bool = False
    of_a8: bool = True
    health: bool = False

    @property
    def name(self) -> str:
        """As people write it: `backup create`."""
        return f"{self.noun} {self.verb}"


def _operation(name: str, route: str, summary: str, **more: bool) -> Operation:
    noun, _, verb = name.partition(" ")
    method, _, rest = route.partition(" ")
    path = rest if rest.startswith("/") else f"{ENVIRONMENT}/{rest}".rstrip("/")
    return Operation(noun, verb, summary, Route(method, path), **more)


OPERATIONS: tuple[Operation, ...] = (
    _operation("server alive", "GET /healthz", "Whether the process answers", health=True),
    _operation("server ready", "GET /readyz", "Whether the store can be written", health=True),
    _operation("server metrics", "GET /metrics", "What was counted, as Prometheus reads it", of_a8=False),
    _operation("server openapi", "GET /openapi.json", "This interface, described", of_a8=False, health=True),
    _operation("env list", "GET /environments", "The environments by name"),
    _operation("env show", "GET", "An environment with its etag and generation"),
    _operation("env runtime", "GET runtime", "What a data plane discovered of itself"),
    _operation("env watch", "GET watch", "Each change of an environment, as it happens", of_a8=False),
    _operation("env reconcile", "POST reconcile", "Authorise a reconciliation of one state", changes=True),
    _operation("env reconcile-complete", "POST reconcile/complete", "Record how a reconciliation ended", changes=True),
    _operation("trust-root list", "GET trust-root", "Whom an environment trusts"),
    _operation("audit list", "GET audit", "Who changed what, in pages or as it happens", of_a8=False),
    _operation("audit head", "GET audit/head", "The newest signed head of the audit log", of_a8=False),
    _operation(
        "evidence record",
        "POST evidence/{noun}/{verb}",
        "Record what a caller is about to do, and did, on its own machine",
        changes=True,
        of_a8=False,
    ),
    _operation("files list", "GET files", "The files beside an environment's document", of_a8=False),
    _operation("files show", "GET files/{path}", "One of them", of_a8=False),
    _operation("files put", "PUT files/{path}", "Write one of them", changes=True, of_a8=False),
    _operation("files remove", "DELETE files/{path}", "Remove one of them", changes=True, of_a8=False),
    _operation("backup create", "POST backups", "Keep the present state", changes=True),
    _operation("backup list", "GET backups", "The backups of an environment, oldest first"),
    _operation("backup delete", "DELETE backups/{backup_id}", "Remove a backup", changes=True),
    _operation("backup export", "GET backups/{backup_id}/export", "A backup to carry elsewhere"),
    _operation("backup restore", "POST restore", "Make a backup the present state", changes=True),
    _operation("backup import", "POST import", "Make an environment of an exported backup", changes=True),
    _operation("backup accept", "POST accept", "Make a mended document the present state", changes=True, of_a8=False),
)
"""In the order of an environment's life."""

_BY_NAME = {(verb.noun, verb.verb): verb for verb in VERBS}


def permission(noun: str, verb: str) -> tuple[str, str]:
    """What an actor must hold for a verb, as (noun, verb): its own name unless the registry says otherwise."""
    known = _BY_NAME.get((noun, verb))
    held, _, done = (f"{noun}:{verb}" if known is None else known.permission).partition(":")
    return held, done


def find(noun: str, verb: str) -> Verb:
    """The verb of that noun and name; NotFound otherwise."""
    found = _BY_NAME.get((noun, verb))
    if found is None:
        raise NotFound(
            f"there is no verb '{noun} {verb}'",
            details={"verbs": [known.name for known in VERBS if not known.internal]},
            next_step="gtc op --help",
        )
    return found
