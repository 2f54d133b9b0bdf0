"""Subcommands of ``refdeq``, found through the entry-point group ``refdeq.commands``."""
