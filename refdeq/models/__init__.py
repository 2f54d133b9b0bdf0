"""Builders that return a :class:`refdeq.graph.Cell`, one published system per file, and trained models shipped as data."""

from refdeq.models.flow import flow_block
from refdeq.models.inr import fourier, siren
from refdeq.models.rnn import rnn
from refdeq.models.trained import TrainedModel, load_trained, trained_names

__all__ = ["TrainedModel", "flow_block", "fourier", "load_trained", "rnn", "siren", "trained_names"]
