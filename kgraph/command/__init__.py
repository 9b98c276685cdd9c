"""The command ``kgraph``: what the package does, from a shell."""

from kgraph.command.main import main

__all__ = ["main"]
