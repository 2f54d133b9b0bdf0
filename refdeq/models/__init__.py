"""Builders that return a :class:`refdeq.graph.Cell`, one published system per file, and trained models shipped as data."""

from refdeq.models.flow import flow_block
from refdeq.models.inr import fourier, siren
from refdeq.models.monotone import monotone, monotone_pullback, monotone_weight, random_monotone
from refdeq.models.monotone_conv import monotone_conv, monotone_conv_pullback, monotone_kernel, random_monotone_conv
from refdeq.models.rnn import rnn
from refdeq.models.trained import TrainedModel, load_trained, trained_names

__all__ = [
    "TrainedModel",
    "flow_block",
    "fourier",
    "load_trained",
    "monotone",
    "monotone_conv",
    "monotone_conv_pullback",
    "monotone_kernel",
    "monotone_pullback",
    "monotone_weight",
    "random_monotone",
    "random_monotone_conv",
    "rnn",
    "siren",
    "trained_names",
]
