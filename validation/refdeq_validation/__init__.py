"""The judge: proves that a backend follows ``docs/semantics.md``, from the backend's own bits.

The judging modules (:mod:`~refdeq_validation.judge`) share only ``refdeq.types`` and ``refdeq.scalar`` with what they judge;
:mod:`~refdeq_validation.runner` and :mod:`~refdeq_validation.protocol.adapter` run backends. Start reading at
:mod:`~refdeq_validation.protocol.problem`.
"""
