"""What a stored study of mutants was made with."""

from __future__ import annotations

import hashlib

from refdeq_validation.mutants.catalogue import EQUIVALENT, MUTANTS

__all__ = ["catalogue_hash"]


def catalogue_hash() -> str:
    """SHA-256 over the names, variants and patches of all entries.

    >>> len(catalogue_hash())
    64
    """
    digest = hashlib.sha256()
    for mutant in [*MUTANTS.values(), *EQUIVALENT.values()]:
        digest.update(f"{mutant.name}\n{mutant.variant}\n{mutant.bug_type}\n".encode())
        for edit in mutant.patch:
            digest.update(f"{edit.module}\n{edit.old}\n{edit.new}\n".encode())
    return digest.hexdigest()
