"""Kernels of :mod:`refdeq_gpu.plans.rows`."""

from __future__ import annotations
