"""The Theano engine: genuine Theano (theano-pymc 1.1.2), with shared variables as storage.

`shims` has to come first: it makes Theano run on this Python and this NumPy.
"""

from kgraph.lower.theano import shims

theano = shims.load()

from kgraph.lower.theano.engine import ENGINE  # noqa: E402

__all__ = ["ENGINE"]
