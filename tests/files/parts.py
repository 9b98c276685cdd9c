"""Files taken apart and put together without kgraph, and a function that has all that a file can have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import kgraph
from kgraph import backend as K
from kgraph.function import Function
from kgraph.ir.node import Graph, Node
from kgraph.ir.traverse import toposort


def unpacked(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The header, the graph of its metadata, and the bytes of the tensors."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    return header, json.loads(header["__metadata__"]["kgraph_graph"]), data[end:]


def packed(header: Any, graph: Any, tensors: bytes) -> bytes:
    """A file. A graph that is a str is taken as it is, and so is a header."""
    if not isinstance(header, str):
        header = json.loads(json.dumps(header))
        if graph is not None:
            header["__metadata__"]["kgraph_graph"] = graph if isinstance(graph, str) else json.dumps(graph)
        header = json.dumps(header)
    text = header.encode()
    return len(text).to_bytes(8, "little") + text + tensors


def saved(path: Path, x: Any, **how: Any) -> bytes:
    """The bytes of the file of x."""
    kgraph.save(path, x, **how)
    return path.read_bytes()


def flat(graph: Graph) -> list[Node]:
    return [*graph.inputs, *graph.outputs, *(node for pair in graph.updates for node in pair)]


def lines(graph: Graph) -> list[str]:
    """Where each node comes from, those of bodies too."""
    found = []
    for node in toposort(flat(graph)):
        found.append(f"{node.op.name} {node.origin!r}")
        for _, value in node.attrs:
            if isinstance(value, Graph):
                found += lines(value)
    return found


def everything() -> Function:
    """A function that has all that a file can have: a loop with a print and a draw in it, a branch, a large constant, updates,
    a scope, names that are alike."""
    x = K.placeholder((None, 3), name="x")
    w, twin = K.variable(np.ones((3, 2)), name="w"), K.variable(2.0, name="w")
    count = K.variable(np.array(3), dtype="int32", name="count")

    def step(row: Any, states: Any) -> Any:
        new = states[0] + K.dot(row, w) * K.random_uniform((2,), seed=4)
        return K.print_tensor(new, "state: "), [new]

    with K.name_scope("encoder"):
        last, every, _ = K.rnn(step, K.expand_dims(x, 1), [K.dot(x, w)])
    large = np.arange(300.0) * np.pi
    loss = K.switch(K.sum(x) > 0, lambda: K.sum(K.exp(every)) * twin, lambda: K.sum(K.sin(last)) + K.sum(large * x[0, 0]))
    (g,) = K.gradients(loss, [w])
    noisy = K.in_train_phase(K.dropout(last, 0.5, seed=7), last)
    return K.function(
        [x, K.learning_phase()],
        [loss, noisy, K.shape(x)[1:], K.any(x > np.inf)],
        [(w, w - 0.1 * g), (count, count + 1)],
        engine="numpy",
    )
