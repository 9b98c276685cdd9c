"""kgraph: the Keras 1.x backend functions as an engine-neutral graph, compiled to many engines."""

__version__ = "0.1.0"
