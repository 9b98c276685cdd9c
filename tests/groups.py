"""Which tests pytest-xdist gives to one worker: those that share a program, whose first one makes it."""

from __future__ import annotations

import re
from typing import Any

from tests.lower.batches import BATCHED

#: The id of a row of a table on an engine: file, function, what the row is of, engine.
_ROW = re.compile(rf"(?P<test>[^\[]*)\[(?P<of>\w+).*-(?P<engine>{'|'.join(BATCHED)})(-\w+)?\]$")


def group_of(nodeid: str) -> str:
    """The tests of one group are run by one worker, one after the other."""
    row = _ROW.match(nodeid)
    if row is None:
        return nodeid.partition("[")[0] + nodeid.partition("[")[2][:4]
    return f"{row['engine']} {row['of']}"


def scheduler(config: Any, log: Any) -> Any:
    """For the hook of pytest-xdist, whose own scheduler by groups finds none under pytest 9.2 (version 3.8.0)."""
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Scheduling(config, log)
