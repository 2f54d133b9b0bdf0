"""Whole solves on a device: which plan there is for a request, and how each runs.

Modules: :mod:`~refdeq_gpu.plans.fc` (K1: one fully connected solve over the whole device), :mod:`~refdeq_gpu.plans.rows`
(K2: many independent rows), :mod:`~refdeq_gpu.plans.conv` (K3: lists of tiles), :mod:`~refdeq_gpu.plans.dispatch` (K4: which).
"""

from __future__ import annotations
