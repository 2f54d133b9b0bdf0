"""Kernels of :mod:`refdeq_gpu.plans.conv`."""

from __future__ import annotations
