"""Derivatives of cells: walks over the graph, products with Jacobians, gradient methods, regularisation.

Modules: :mod:`~refdeq.gradients.reverse` and :mod:`~refdeq.gradients.forward` (one walk over the nodes each way),
:mod:`~refdeq.gradients.linearisation` (f at a point, ready for any number of products), :mod:`~refdeq.gradients.products`
(``refdeq.jvp`` and ``refdeq.vjp``), :mod:`~refdeq.gradients.regularisation` (the penalty on the Jacobian). Names are imported
from the modules, so that this package can be imported by what its modules are built on.
"""
