"""Every error that kgraph raises for a mistake of its caller.

Each is also the built-in error that the same mistake raises in NumPy or Python, so ``except ValueError`` goes on working.
The text of an error has up to four parts: who raised and which values disagree, the operands as the user named them, the
user's line, and a hint.
"""

from __future__ import annotations

from collections.abc import Sequence


class KGraphError(Exception):
    """The base of every error of kgraph.

    Args:
      message: which values disagree, in one line.
      hint: the next step, if one is known.
    """

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.call: str | None = None
        self.operands: Sequence[str] = ()
        self.place: str | None = None

    def at(self, call: str | None = None, operands: Sequence[str] = (), place: str | None = None) -> KGraphError:
        """Say who raised, over which operands, at which line. What is known already stays."""
        self.call = self.call or call
        self.operands = self.operands or operands
        self.place = self.place or place
        return self

    def __str__(self) -> str:
        head = f"{self.call}: {self.message}" if self.call else self.message
        lines = [head, *(f"  {operand}" for operand in self.operands)]
        if self.place:
            lines.append(f"  at {self.place}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class ShapeError(KGraphError, ValueError):
    """Sizes or ranks that do not go together, at build time or at run time."""


class DTypeError(KGraphError, TypeError):
    """A dtype that the operation does not take, or that does not exist."""


class AxisError(KGraphError, ValueError, IndexError):
    """An axis outside the rank of its tensor, or named twice."""


class IndexOutOfRange(KGraphError, IndexError):
    """An index outside the axis that it selects from."""


class TensorUseError(KGraphError, TypeError):
    """A symbolic tensor where Python needs a value: ``bool``, ``float``, iteration over an unknown size."""


class GradientError(KGraphError, ValueError):
    """A gradient asked for along a path that does not exist."""


class FeedError(KGraphError, ValueError, TypeError):
    """A call of a function with the wrong number, kind, rank or size of values."""


class UpdateError(KGraphError, ValueError, TypeError):
    """An update of something that is no variable, of one variable twice, or by a value that does not fit."""


class BodyError(KGraphError, ValueError):
    """A value of a loop or branch body used outside of it."""


class ArgumentError(KGraphError, ValueError):
    """An argument that is no value the function takes: a rate of 2, a phase of 3, an option that does not exist."""


class ConfigError(KGraphError, ValueError):
    """A settings file that cannot be read, or a setting with a value that it cannot have."""


class FileError(KGraphError, ValueError, OSError):
    """A file of a graph that cannot be read or written, or holds what no graph is: damaged, or made to do harm."""


class RuleError(KGraphError, AssertionError):
    """A rule that does not keep what it promises, found by `kgraph.check_rule`."""


class RewriteWarning(UserWarning):
    """A rule that is left out, because it failed, or optimising that took too long. The program runs all the same."""


class EngineError(KGraphError, ValueError):
    """An engine that is not known or not installed."""


class MissingRule(KGraphError, NotImplementedError):
    """An op that an engine has no lowering rule for, and that has no ``expand``.

    Attributes:
      op: the name of the op.
    """

    op: str = ""


class GraphError(KGraphError, ValueError):
    """A graph that breaks a rule of the graph itself; raised by the verifier."""
