"""Every op, a file per family. ``import kgraph.ir.ops as o`` gives them all by name."""

from kgraph.ir.ops.source import (  # noqa: F401, I001  # source first: every family builds constants
    absent, constant, constant_of, learning_phase, param, placeholder, scalar, stream, variable,
)  # fmt: skip
from kgraph.ir.op import OPS  # noqa: F401
from kgraph.ir.ops.elementwise import *  # noqa: F403
from kgraph.ir.ops.shape import *  # noqa: F403
from kgraph.ir.ops.reduce import *  # noqa: F403
from kgraph.ir.ops.index import *  # noqa: F403
from kgraph.ir.ops.pad import *  # noqa: F403
from kgraph.ir.ops.linalg import *  # noqa: F403
from kgraph.ir.ops.nn import *  # noqa: F403
from kgraph.ir.ops.conv import *  # noqa: F403
from kgraph.ir.ops.pool import *  # noqa: F403
from kgraph.ir.ops.ctc import *  # noqa: F403
from kgraph.ir.ops.random import *  # noqa: F403
from kgraph.ir.ops.control import *  # noqa: F403
from kgraph.ir.ops.scan import *  # noqa: F403
