"""What trust refuses, in the kinds of the reference (01, section 3.2).

    GreenticError
    ├── TrustRootError         a trust root or a public key cannot be used           trust-root
    │   └── KeyRemoved         a removed key would come back by itself               trust-root
    ├── NotTrusted             no trusted key stands behind a document               trust-root
    │   └── SignatureInvalid   a trusted key is named, its signature does not hold   trust-root
    ├── OperatorKeyError       the operator key file cannot be used                  operator-key
    ├── RevenuePolicyError     a revenue policy breaks its chain or its rules        revenue-policy
    └── Conflict
        └── OperatorKeyNotTrusted   the environment does not trust the operator key  conflict

No error holds a private key, the text of a key file or a payload.
"""

from __future__ import annotations

from greentic.spec.errors import Conflict, GreenticError
from greentic.spec.trust_root import KeyRemoved, TrustRootError

__all__ = [
    "KeyRemoved",
    "NotTrusted",
    "OperatorKeyError",
    "OperatorKeyNotTrusted",
    "RevenuePolicyError",
    "SignatureInvalid",
    "TrustRootError",
]


class NotTrusted(TrustRootError):
    """No trusted key stands behind a document."""


class SignatureInvalid(NotTrusted):
    """A trusted key is named as signer and its signature does not hold."""


class OperatorKeyError(GreenticError):
    """The operator key file is missing, unsafe or not what it should be."""

    kind = "operator-key"


class OperatorKeyNotTrusted(Conflict):
    """The operator key is sound; the environment's trust root does not hold it."""


class RevenuePolicyError(GreenticError):
    """A revenue policy is malformed, does not follow from the one before, or is not what was signed."""

    kind = "revenue-policy"
