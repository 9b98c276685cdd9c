"""kgraph: the Keras 1.x backend functions as an engine-neutral graph, compiled to many engines."""

__version__ = "0.1.0"

from kgraph.check import check_rule
from kgraph.compare import compare
from kgraph.files import Limits, load, save
from kgraph.flow import gradient_ends
from kgraph.ir.passes import add_pass, remove_pass
from kgraph.networks import to_networkx
from kgraph.optimizer import explain, optimize
from kgraph.show import show, to_text

__all__ = [
    "Limits",
    "add_pass",
    "check_rule",
    "compare",
    "explain",
    "gradient_ends",
    "load",
    "optimize",
    "remove_pass",
    "save",
    "show",
    "to_networkx",
    "to_text",
]
