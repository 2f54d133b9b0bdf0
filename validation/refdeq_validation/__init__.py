"""The judge: proves that a backend follows ``docs/semantics.md``, from the backend's own bits.

The judging modules (:mod:`~refdeq_validation.replay` and what it imports) share only ``refdeq.types`` and ``refdeq.scalar``
with what they judge; :mod:`~refdeq_validation.runner` is the part that runs backends. Start reading at ``replay.replay``.
"""
