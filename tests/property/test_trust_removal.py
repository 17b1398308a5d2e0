"""A removed key stays removed, whatever is done to the trust root, until somebody restores that very key."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from greentic.trust import root as trust_root
from greentic.trust.errors import KeyRemoved
from greentic.trust.keys import OperatorKey
from greentic.trust.root import AddTrustedKeyPayload, TrustRoot

KEYS = [OperatorKey.from_seed(bytes([number]) * 32).public for number in range(1, 5)]
NOW = "2026-07-24T10:00:00Z"
some_key = st.sampled_from(KEYS)
in_either_case = st.booleans()


class Removal(RuleBasedStateMachine):
    """The document against two sets: what is trusted, and what was removed."""

    def __init__(self) -> None:
        super().__init__()
        self.root: TrustRoot | None = None
        self.trusted: set[str] = set()
        self.removed: set[str] = set()

    @property
    def document(self) -> TrustRoot:
        return self.root or trust_root.empty()

    @rule(key=some_key)
    def seed(self, key) -> None:
        seeded = trust_root.seed(self.root, key)
        if self.root is None:
            self.trusted.add(key.key_id)
        assert (seeded.outcome is not None) == (self.root is None)
        self.root = seeded.root

    @rule(key=some_key)
    def bootstrap(self, key) -> None:
        try:
            self.root = trust_root.bootstrap(self.document, key).root
        except KeyRemoved:
            assert key.key_id in self.removed
        else:
            assert key.key_id not in self.removed
            self.trusted.add(key.key_id)

    @rule(key=some_key, upper=in_either_case, restore=st.booleans())
    def add(self, key, upper: bool, restore: bool) -> None:
        key_id = key.key_id.upper() if upper else key.key_id
        payload = AddTrustedKeyPayload(key_id=key_id, public_key_pem=key.pem, restore=restore)
        try:
            added = trust_root.add(self.document, payload)
        except KeyRemoved:
            assert key.key_id in self.removed
            assert not restore
        else:
            assert restore or key.key_id not in self.removed
            self.root = added.root
            self.trusted.add(key.key_id)
            self.removed.discard(key.key_id)
            assert added.outcome.trusted_key_count == len(self.trusted)

    @rule(key=some_key, upper=in_either_case)
    def remove(self, key, upper: bool) -> None:
        removed = trust_root.remove(self.document, key.key_id.upper() if upper else key.key_id, NOW)
        assert (removed.outcome.removed_public_key_pem is not None) == (key.key_id in self.trusted)
        if key.key_id in self.trusted:
            self.root = removed.root
            self.trusted.remove(key.key_id)
            self.removed.add(key.key_id)
        assert removed.outcome.trusted_key_count == len(self.trusted)

    @rule()
    def write_and_read(self) -> None:
        if self.root is not None:
            self.root = trust_root.read(self.root.to_bytes())

    @invariant()
    def the_document_says_what_happened(self) -> None:
        assert {key.key_id for key in self.document.trusted()} == self.trusted
        assert {key.key_id for key in self.document.once_trusted()} == self.removed
        assert not self.trusted & self.removed


Removal.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestRemoval = Removal.TestCase
