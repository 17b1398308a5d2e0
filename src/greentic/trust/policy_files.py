"""Where the versions of a revenue policy are kept: see `greentic.spec.policy_files`."""

from __future__ import annotations

from greentic.spec.policy_files import FOLDER, document_ref, segment, signature_ref, version_of

__all__ = ["FOLDER", "document_ref", "segment", "signature_ref", "version_of"]
