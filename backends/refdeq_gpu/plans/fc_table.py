"""Kernels of :mod:`refdeq_gpu.plans.fc`."""

from __future__ import annotations
