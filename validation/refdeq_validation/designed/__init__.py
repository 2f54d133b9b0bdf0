"""Designed solves of whole cells, for backends of :mod:`refdeq.registry`; judged by trace replay."""
