"""The judge proper: bounds, exact sums, replay, verdicts; it shares ``refdeq.types`` and ``refdeq.scalar`` with refdeq."""
