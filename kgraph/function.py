"""`Function`: a graph that can be called. What it takes and refuses, its train and test programs, its errors at run time."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph import cache, phase
from kgraph.call import Caller, Feeds, fits
from kgraph.config import settings
from kgraph.errors import FeedError, GraphError, IndexOutOfRange, KGraphError, MissingRule, ShapeError, UpdateError
from kgraph.ir.body import check_no_strays
from kgraph.ir.listing import Listing, is_large
from kgraph.ir.node import Constant, Graph, Identity, Node, describe
from kgraph.ir.operators import Operators
from kgraph.ir.origin import Origin, here
from kgraph.ir.passes import Record, chosen, run_pipeline
from kgraph.ir.promote import as_dtype, as_node
from kgraph.ir.traverse import substitute, toposort
from kgraph.lower.engine import Engine, engines_with, get_engine
from kgraph.lower.variable import Variable

#: Arguments of `K.function` that Theano or TensorFlow took, and that mean nothing here.
FOREIGN = (
    "mode", "givens", "name", "allow_input_downcast", "on_unused_input", "profile", "no_default_updates", "rebuild_strict",
    "accept_inplace", "options", "run_metadata", "feed_dict", "fetches", "session",
)  # fmt: skip

_warned: set[str] = set()


class Function:
    """A compiled graph. Call it with one list of values, with the values themselves, or by the names of its placeholders.

    Args:
      inputs: tensors: placeholders, variables (the fed value stands for it during a call), the learning phase, or any other
        tensor (the graph is cut there).
      outputs: a tensor, or a list of tensors; a call returns an array, or a list of arrays in this order.
      updates: pairs (variable, new value). All reads happen before all writes.
      engine: name of the engine; None for the one configured when the function is first called.
      optimize: True, False, or the names of passes.
      options: for the engine.
    Raises: GraphError, UpdateError, BodyError.

    Attributes:
      graph: as built.
      name: of the function, for messages.
    """

    def __init__(
        self,
        inputs: Sequence[Any],
        outputs: Any,
        updates: Iterable[Any] = (),
        engine: str | Engine | None = None,
        optimize: bool | Iterable[str] = True,
        options: dict[str, Any] | None = None,
    ):
        self._made = here(2)
        try:
            self._engine = None if engine is None else get_engine(engine)
            self.passes = chosen(optimize)
        except KGraphError as error:
            raise error.at("function", (), str(self._made)) from error.__cause__
        self.options = dict(options or {})
        self._single = isinstance(outputs, Operators)
        given = [
            _as_input(value, position, self._made) for position, value in enumerate(_as_list(inputs, "inputs", self._made))
        ]
        wanted = [
            _as_output(value, position, self._made)
            for position, value in enumerate([outputs] if self._single else _as_list(outputs, "outputs", self._made))
        ]
        pairs = _as_updates(updates, self._made)
        self._fed_phase = next((i for i, node in enumerate(given) if node.op is o.learning_phase), None)
        self._shown = [describe(node) for i, node in enumerate(given) if i != self._fed_phase]
        given = [node for i, node in enumerate(given) if i != self._fed_phase]
        self._names = [node.name for node in given]
        self.graph = _cut(Graph(given, wanted, pairs), given, self._made)
        self._check_sources()
        self.feeds = Feeds(self.graph.inputs, self.graph.roots, self._shown, self._made)
        self._calls: dict[int, Callable[..., list[Any]]] = {}
        self._programs: dict[int, Any] = {}
        self._lock = threading.RLock()

    # ------------------------------------------------------------------------------------------------ calling

    def __call__(self, *args: Any, training: Any = None, **named: Any) -> Any:
        """The outputs for the values given.

        Args:
          args: exactly one list or tuple, which holds the values of the inputs; or the values themselves.
          training: the learning phase of this call; None for the one that is set, or test.
          named: values by the names of their placeholders.
        Returns: an array per output, which share memory with nothing; one array if the function was made with one tensor.
        Raises: FeedError for a wrong number, kind, rank or size of values; ShapeError, IndexOutOfRange, UpdateError. When it
          raises, no variable has changed.
        """
        values: Sequence[Any] = args
        if len(args) == 1 and (args[0].__class__ is list or args[0].__class__ is tuple):
            values = args[0]
        if named or training is not None or self._fed_phase is not None or len(values) != len(self.feeds.nodes):
            values, now = self._arrange(values, training, named)
        else:
            now = phase.fixed or 0
        call = self._calls.get(now)
        if call is None:
            call = self._compile(now)
        try:
            results = call(*values)
        except Exception as error:
            raise self._explained(error, now) from error.__cause__
        return results[0] if self._single else results

    def _arrange(self, args: Sequence[Any], training: Any, named: dict[str, Any]) -> tuple[list[Any], int]:
        """The values in order, without the phase, and the phase. Raises FeedError."""
        values = list(args)
        count = len(self.feeds.nodes) + (self._fed_phase is not None)
        if len(values) == count + 1 and phase.fixed is not None and not named:
            values.pop()  # Keras appends the phase also when it is fixed
        now = phase.fixed or 0
        if self._fed_phase is not None and len(values) > self._fed_phase and len(values) + len(named) >= count:
            now = _as_phase(values.pop(self._fed_phase), self._made)
        if training is not None:
            now = _as_phase(training, self._made)
        if named:
            values = self._by_name(values, named)
        if len(values) != len(self.feeds.nodes):
            expected = "\n  ".join(f"input {i}: {shown}" for i, shown in enumerate(self._shown))
            came = f"{len(values)} value{'s were' if len(values) != 1 else ' was'} fed, {len(self.feeds.nodes)} expected"
            missing = (
                f"; {self._names[len(values)]!r} is not fed"
                if len(values) < len(self._shown) and self._names[len(values)]
                else ""
            )
            raise FeedError(came + missing).at("function call", [expected] if expected else [], f"{self._made} (the function)")
        return values, now

    def _by_name(self, values: list[Any], named: dict[str, Any]) -> list[Any]:
        filled: dict[int, Any] = dict(enumerate(values))
        for name, value in named.items():
            places = [i for i, known in enumerate(self._names) if known == name]
            if len(places) != 1 or places[0] in filled:
                known = ", ".join(repr(n) if n else "one without a name" for n in self._names)
                message = (
                    f"{name!r} is fed twice" if len(places) == 1 else f"{len(places) or 'no'} inputs have the name {name!r}"
                )
                raise FeedError(message, hint=f"the inputs are {known}" if known else "there are no inputs").at(
                    "function call", (), f"{self._made} (the function)"
                )
            filled[places[0]] = value
        missing = [i for i in range(len(self._names)) if i not in filled]
        if missing or len(filled) != len(self._names):
            lines = [f"input {i}: {self._shown[i]}" for i in missing]
            raise FeedError("not every input is fed").at("function call", lines, f"{self._made} (the function)")
        return [filled[i] for i in range(len(self._names))]

    # ------------------------------------------------------------------------------------------------ compiling

    @property
    def engine(self) -> Engine:
        """The engine: the one asked for, or the one configured when it was first needed."""
        if self._engine is None:
            self._engine = get_engine(settings.engine)
        return self._engine

    def optimized(self, training: bool = False, record: Record | None = None) -> Graph:
        """The graph of one phase as the engine gets it.

        Args:
          record: takes the rewrites.
        """
        try:
            return run_pipeline(self.graph, int(training), self.passes, self.engine.rules.keys(), record)
        except MissingRule as error:
            error.message = f"the engine {self.engine.name} has no rule for the op {error.op}, which has no simpler form"
            error.hint = f"engines that have it: {', '.join(engines_with(o.OPS[error.op])) or 'none that is loaded'}"
            raise

    @property
    def source(self) -> str:
        """The text of the test program, for engines that write one."""
        self._calls.get(0) or self._compile(0)
        return getattr(self._programs[0], "source", "")

    def _listing(self) -> Listing:
        return Listing.of([*self.graph.inputs, *(v for v, _ in self.graph.updates), *self.graph.roots])

    def _warn_of_options(self, engine: Engine) -> None:
        if ignored := sorted(set(self.options) - set(engine.options)):
            known = ", ".join(engine.options) or "none"
            message = f"K.function: the engine {engine.name} ignores the options {', '.join(ignored)}; it has {known}"
            if message not in _warned:
                _warned.add(message)
                warnings.warn(message, stacklevel=5)

    def _compile(self, now: int) -> Callable[..., list[Any]]:
        """The caller of one phase, from the cache where its structure is known."""
        with self._lock:
            if now in self._calls:
                return self._calls[now]
            engine = self.engine
            self._warn_of_options(engine)
            built = self._listing()
            shape = (len(self.graph.inputs), len(self.graph.updates), len(self.graph.outputs))
            key = built.digest(shape, now, self.passes, engine.name, engine.number, sorted(self.options.items()))
            if any(isinstance(identity, Constant) for identity in built.identities):
                # What the passes make of a large constant may depend on its value.
                key += b"".join(identity.key[2] for identity in built.identities if isinstance(identity, Constant))
            entry: cache.Entry | None = cache.as_built.get(key)
            if entry is None:
                entry = self._lower(now, built, engine)
                cache.as_built.put(key, entry, entry.nodes)
            call = self._caller(now, entry, built, engine)
            self._programs[now] = entry.program or self._programs[now]
            self._calls[now] = call
            return call

    def _closed(self, now: int, built: Listing, engine: Engine) -> tuple[Graph, list[Node]]:
        """The optimised graph with its arguments as inputs, and the large constants that the passes made."""
        graph = self.optimized(bool(now))
        known = set(built.identities)
        arguments = [node for node in toposort(graph.roots) if _is_argument(node, engine)]
        # A large constant that a pass has made is the program's own.
        folded = [node for node in arguments if node.op is o.constant and _identity(node) not in known]
        arguments = [node for node in arguments if node not in folded]
        arguments.sort(key=lambda node: _SORTS.index(node.op.name))
        return Graph(arguments, graph.outputs, graph.updates), folded

    def _lower(self, now: int, built: Listing, engine: Engine) -> cache.Entry:
        """The passes, and the program: known by the structure that they leave, or made."""
        closed, folded = self._closed(now, built, engine)
        nodes = len(closed)
        program = None
        if not engine.stateful:
            listing = Listing.of([*closed.inputs, *closed.roots])
            shape = (len(closed.inputs), len(closed.outputs))
            key = listing.digest(shape, engine.name, engine.number, sorted(self.options.items()))
            key += b"".join([_identity(node).key[2] for node in folded])
            program = cache.program_of(key, lambda: engine.lower(closed, self.options), nodes)
        place = {identity: i for i, identity in enumerate(built.identities)}
        return cache.Entry(program, tuple([place[_identity(node)] for node in closed.inputs]), nodes)

    def _caller(self, now: int, entry: cache.Entry, built: Listing, engine: Engine) -> Callable[..., list[Any]]:
        fed = {node.attr("uid"): i for i, node in enumerate(self.graph.inputs)}
        arguments = []
        for index in entry.sources:
            identity = built.identities[index]
            arguments.append(fed.get(identity, identity.array if isinstance(identity, Constant) else identity))
        written = [(variable.attr("uid"), value) for variable, value in self.graph.updates]
        caller = Caller(self.feeds, arguments, written, len(self.graph.outputs))
        if not engine.stateful:
            assert entry.program is not None
            return caller.make(getattr(entry.program, "call", entry.program), engine)
        this = weakref.ref(self)  # no cycle: what is dropped gives up its variables at once
        self._programs[now] = program = self._bound(now, built, engine)
        return caller.make(program, engine, lambda *values: _alive(this)._rebound(now, values))

    def _bound(self, now: int, built: Listing, engine: Engine) -> Callable[..., Any]:
        """The program of a stateful engine over the storages of this function's variables."""
        closed, _ = self._closed(now, built, engine)
        variables = dict.fromkeys([n for n in closed.inputs if n.op is o.variable] + [v for v, _ in closed.updates])
        storages: dict[Node, Any] = {}
        for node in variables:
            variable: Variable = node.attr("uid")
            copy = variable.copy_in(engine)
            with variable.lock:
                if copy.version != variable.version:
                    variable.refresh(copy)
            storages[node] = copy.storage
        return engine.bind(closed, storages, self.options)

    def _rebound(self, now: int, values: Sequence[Any]) -> list[Any]:
        """The call, after the engine has begun a new generation."""
        with self._lock:
            self._calls.pop(now, None)
        return self._compile(now)(*values)

    # ------------------------------------------------------------------------------------------------ errors

    def _check_sources(self) -> None:
        """Raises for what no call could ever find: a placeholder that is no input, a value of a body used outside of it."""
        order = toposort(self.graph.roots)
        check_no_strays(order)
        given = set(self.graph.inputs)
        for node in order:
            if node.op is o.placeholder and node not in given:
                raise FeedError(
                    f"the outputs need {node.name!r}, which is not among the inputs"
                    if node.name
                    else "the outputs need a placeholder that is not among the inputs",
                    hint="add it to the inputs of K.function"
                    if self._made.function != "eval"
                    else "K.eval has no values to feed; K.function([placeholder], [x]) makes a function that is fed",
                ).at(
                    "function",
                    [f"placeholder: {describe(node)}"],
                    f"{self._made} (the function); {node.origin} (the placeholder)",
                )

    def _explained(self, error: Exception, now: int) -> Exception:
        """An exception of the program with the node that raised it: the K function, its operands, the user's line."""
        program: Any = self._programs.get(now)
        if isinstance(error, KGraphError) and error.place:
            return error
        path: Sequence[tuple[str, int]] = ()
        if hasattr(program, "explain"):
            error, path = program.explain(error)
        elif hasattr(program, "locate"):
            path = program.locate(error.__traceback__)
        if not path:
            return error
        node, operands = self._node_at(path, now)
        kind: type[KGraphError] = ShapeError if isinstance(error, ValueError) else GraphError
        message = str(error) if not isinstance(error, KGraphError) else error.message
        if isinstance(error, IndexError):
            kind, message = IndexOutOfRange, str(error) if "out of" in str(error) else f"an index is out of range: {error}"
        elif isinstance(error, MemoryError):
            return error
        elif not isinstance(error, (ValueError, KGraphError)):
            message = f"{type(error).__name__}: {error}"
        hint = "the indices of an axis of size n go from -n to n - 1" if kind is IndexOutOfRange else None
        explained = type(error)(message, hint=error.hint) if isinstance(error, KGraphError) else kind(message, hint=hint)
        return explained.at(node.origin.function, node.op.describe_operands(operands), str(node.origin))

    def _node_at(self, path: Sequence[tuple[str, int]], now: int) -> tuple[Node, tuple[Node, ...]]:
        """The node of this function at a place in the program, which may have been compiled for another one like it, and its
        operands: what a body is given stands for its parameters."""
        graph, _ = self._closed(now, self._listing(), self.engine)
        order = toposort(graph.roots, stop=graph.inputs)
        node = order[path[0][1]]
        operands = node.inputs
        for attr, number in path[1:]:
            body: Graph = node.attr(attr)
            given = dict(zip(body.inputs, operands[len(operands) - len(body.inputs) :], strict=True))
            node = toposort(body.roots, stop=body.inputs)[number]
            operands = tuple([given.get(i, i) for i in node.inputs])
        return node, operands

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self.graph, self._fed_phase, self._shown, self._names, self._single, self._made)
        return _loaded, (*state, None if self._engine is None else self._engine.name, self.passes, self.options)

    def __deepcopy__(self, memo: dict[int, Any]) -> Function:
        return self

    def __repr__(self) -> str:
        engine = settings.engine if self._engine is None else self._engine.name
        takes = ", ".join(map(repr, self._names)) or "nothing"
        gives = f"{len(self.graph.outputs)} outputs, {len(self.graph.updates)} updates"
        return f"<Function of {takes}: {gives}, on {engine}, made at {self._made}>"


def _loaded(
    graph: Graph, fed_phase: int | None, shown: list[str], names: list[Any], single: bool, made: Origin,
    engine: str | None, passes: tuple[str, ...], options: dict[str, Any],
) -> Function:  # fmt: skip
    function = Function.__new__(Function)
    function.graph, function._fed_phase, function._shown, function._names = graph, fed_phase, shown, names
    function._single, function._made, function.passes, function.options = single, made, passes, options
    function._engine = None if engine is None else get_engine(engine)
    function.feeds = Feeds(graph.inputs, graph.roots, shown, made)
    function._calls, function._programs, function._lock = {}, {}, threading.RLock()
    return function


def _alive(function: weakref.ref[Function]) -> Function:
    found = function()
    assert found is not None  # it is being called
    return found


#: The order of a program's arguments.
_SORTS = ("placeholder", "stream", "variable", "constant")


def _is_argument(node: Node, engine: Engine) -> bool:
    if node.op is o.constant:
        return not engine.stateful and is_large(node.attrs[0][1])  # a stateful engine keeps constants as it keeps variables
    return node.op.name in _SORTS


def _identity(node: Node) -> Any:
    return node.attrs[0][1] if node.op is o.constant else node.attr("uid")


def _as_list(values: Any, what: str, made: Origin) -> list[Any]:
    if isinstance(values, (list, tuple)):
        return list(values)
    hint = f"write [{what[:-1]}]" if isinstance(values, Operators) else None
    raise GraphError(f"{what} is a {type(values).__name__}, not a list of tensors", hint=hint).at("function", (), str(made))


def _as_input(value: Any, position: int, made: Origin) -> Node:
    if isinstance(value, Operators):
        return value.node
    raise GraphError(
        f"input {position} is {value!r:.60}, not a tensor",
        hint="K.learning_phase() is an int while the phase is set; leave it out, or do not set it"
        if isinstance(value, int)
        else None,
    ).at("function", (), str(made))


def _as_output(value: Any, position: int, made: Origin) -> Node:
    try:
        return as_node(value)
    except KGraphError as error:
        raise GraphError(f"output {position}: {error.message}", hint=error.hint).at("function", (), str(made)) from None


def _as_updates(updates: Iterable[Any], made: Origin) -> list[tuple[Node, Node]]:
    """The updates as pairs of nodes, new values in the dtype of their variable. Raises UpdateError."""
    found: dict[Node, Node] = {}
    pairs = updates.items() if isinstance(updates, dict) else updates
    for position, pair in enumerate(pairs):
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            hint = "updates is a list of pairs: [(variable, new value)]"
            raise UpdateError(f"update {position} is {pair!r:.80}, not a pair (variable, new value)", hint=hint).at(
                "function", (), str(made)
            )
        target, value = pair
        if not isinstance(target, Operators) or target.node.op is not o.variable:
            shown = describe(target.node) if isinstance(target, Operators) else repr(target)
            raise UpdateError("the target of an update is no variable", hint="K.variable makes one").at(
                "function", [f"target: {shown}"], str(made)
            )
        variable = target.node
        new = as_dtype(as_node(value, like=variable.dtype), variable.dtype)
        if not fits(new.type.shape, variable.type.shape):
            operands = [f"variable:  {describe(variable)}", f"new value: {describe(new)}"]
            hint = "the shapes have to be equal; nothing is stretched"
            raise UpdateError("the new value does not fit the shape of its variable", hint=hint).at(
                "function", operands, str(made)
            )
        if found.setdefault(variable, new) is not new:
            operands = [
                f"variable: {describe(variable)}",
                f"first:    {describe(found[variable])}",
                f"then:     {describe(new)}",
            ]
            raise UpdateError("a variable is updated twice, by different values", hint="name each variable once").at(
                "function", operands, str(made)
            )
    return list(found.items())


def _cut(graph: Graph, given: Sequence[Node], made: Origin) -> Graph:
    """The graph with a placeholder at each input that is none, so that what it was made of is not computed."""
    stand_ins: dict[Node, Node] = {}
    inputs = []
    for position, node in enumerate(given):
        if node in given[:position] or node.op is o.learning_phase:  # one of these is no longer among them
            raise GraphError("an input is named twice").at("function", [f"input {position}: {describe(node)}"], str(made))
        if node.op is o.placeholder:
            inputs.append(node)
        else:
            stand_ins[node] = o.placeholder(type=node.type, uid=Identity(node.name))
            inputs.append(stand_ins[node])
    for variable, _ in graph.updates:
        if variable in stand_ins:
            hint = "feed a placeholder in its place, or update another variable"
            raise UpdateError("a variable that is fed cannot be updated in the same call", hint=hint).at(
                "function", [f"variable: {describe(variable)}"], str(made)
            )
    if not stand_ins:
        return Graph(inputs, graph.outputs, graph.updates)
    return Graph(inputs, graph.outputs, graph.updates).with_roots(substitute(graph.roots, stand_ins))


def _as_phase(value: Any, made: Origin) -> int:
    found = np.asarray(value)
    if found.size != 1 or found.dtype.kind not in "biuf" or found.item() not in (0, 1):
        raise FeedError(f"the learning phase is {value!r:.60}, not 0 (test) or 1 (train)").at(
            "function call", (), f"{made} (the function)"
        )
    return int(found.item())


def warn_of_foreign(names: Iterable[str]) -> None:
    """Accept the arguments that Theano or TensorFlow took, with one warning each. Raises TypeError for any other."""
    for name in names:
        if name not in FOREIGN:
            raise TypeError(f"K.function has no argument {name!r}")
        if name not in _warned:
            _warned.add(name)
            warnings.warn(f"K.function: {name!r} means nothing here and is ignored", stacklevel=3)
