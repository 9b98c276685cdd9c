"""`Function`: a graph that can be called. Its calls, its train and test programs, its errors at run time."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph import cache, phase
from kgraph.arguments import as_inputs, as_outputs, as_updates, check_sources, cut
from kgraph.call import Caller, Feeds, refused
from kgraph.config import settings
from kgraph.errors import EngineError, GraphError, IndexOutOfRange, KGraphError, MissingRule, ShapeError
from kgraph.explain import Explanation, bisected
from kgraph.ir.listing import Listing, is_large
from kgraph.ir.node import Constant, Graph, Node, describe
from kgraph.ir.operators import Operators
from kgraph.ir.origin import Origin, here
from kgraph.ir.passes import Passes, Record, Rewrite, chosen, run_pipeline
from kgraph.ir.traverse import substitute, toposort
from kgraph.lower.engine import Engine, engines_with, get_engine
from kgraph.lower.variable import Variable
from kgraph.memory import Memory, remembered
from kgraph.nan import NotFinite, first_not_finite
from kgraph.profile import Profile, profiled
from kgraph.watch import held

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
      exclude: names of rules that the passes leave out.
      finite: whether rules may be used that hold for finite numbers alone.
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
        exclude: Iterable[str] = (),
        finite: bool = False,
    ):
        self._made = here(2)
        try:
            self._engine = None if engine is None else get_engine(engine)
            self.passes = chosen(optimize, exclude, finite)
        except KGraphError as error:
            raise error.at(self._made.function, (), str(self._made)) from error.__cause__
        self.options = dict(options or {})
        self._single = isinstance(outputs, Operators)
        given = as_inputs(inputs, self._made)
        wanted = as_outputs([outputs] if self._single else outputs, self._made)
        pairs = as_updates(updates, self._made)
        self._fed_phase = next((i for i, node in enumerate(given) if node.op is o.learning_phase), None)
        self._shown = [describe(node) for i, node in enumerate(given) if i != self._fed_phase]
        given = [node for i, node in enumerate(given) if i != self._fed_phase]
        self._names = [node.name for node in given]
        self.graph = cut(Graph(given, wanted, pairs), given, self._made)
        check_sources(self.graph, self._made)
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
        if named or self._fed_phase is not None or len(values) != len(self.feeds.nodes):
            values, now = self._arrange(values, named)
        else:
            now = phase.fixed or 0
        if training is not None:
            now = _as_phase(training, self._made)
        call = self._calls.get(now)
        if call is None:
            call = self._compile(now)
        try:
            results = call(*values)
        except Exception as error:
            raise self._explained(error, now) from error.__cause__
        return results[0] if self._single else results

    def _arrange(self, args: Sequence[Any], named: dict[str, Any]) -> tuple[list[Any], int]:
        """The values in order, without the phase, and the phase. Raises FeedError."""
        values = list(args)
        count = len(self.feeds.nodes) + (self._fed_phase is not None)
        if len(values) == count + 1 and phase.fixed is not None and not named:
            values.pop()  # Keras appends the phase also when it is fixed
        now = phase.fixed or 0
        if self._fed_phase is not None and len(values) > self._fed_phase and len(values) + len(named) >= count:
            now = _as_phase(values.pop(self._fed_phase), self._made)
        if named:
            values = self._by_name(values, named)
        if len(values) != len(self.feeds.nodes):
            message = f"{len(values)} value{'s were' if len(values) != 1 else ' was'} fed, {len(self._shown)} expected"
            if len(values) < len(self._shown) and self._names[len(values)]:
                message += f"; {self._names[len(values)]!r} is not fed"
            hint = None
            if len(self._shown) == 1 and isinstance(args, list):
                hint = "a list that is given alone holds the values of the inputs; to feed a list, give [list]"
            elif len(values) == 1 and isinstance(values[0], (list, tuple)) and len(values[0]) == len(self._shown):
                hint = f"the one value is a list of {len(values[0])}; give it as it is, not within another list"
            raise refused(message, self._made, [f"input {i}: {shown}" for i, shown in enumerate(self._shown)], hint)
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
                raise refused(message, self._made, hint=f"the inputs are {known}" if known else "there are no inputs")
            filled[places[0]] = value
        missing = [i for i in range(len(self._names)) if i not in filled]
        if missing or len(filled) != len(self._names):
            lines = [f"input {i}: {self._shown[i]}" for i in missing]
            raise refused("not every input is fed", self._made, lines)
        return [filled[i] for i in range(len(self._names))]

    # ------------------------------------------------------------------------------------------------ compiling

    @property
    def engine(self) -> Engine:
        """The engine: the one asked for, or the one configured when it was first needed."""
        if self._engine is None:
            try:
                self._engine = get_engine(settings.engine)
            except KGraphError as error:
                if "engine" in settings.sources:
                    error.message += f" ({settings.sources['engine']} asks for it)"
                raise error.at(place=f"{self._made} (the function)") from error.__cause__
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

    def explain(self, training: bool = False) -> Explanation:
        """What the passes make of the graph of one phase, rewrite by rewrite, and what that saves. Print it, or ask it
        ``why(tensor)`` and ``why_not(rule, tensor)``."""
        return Explanation(self.graph, lambda passes, record: self._after(passes, training, record), self.passes)

    def bisect(self, check: Callable[[Function], Any], training: bool = False) -> Rewrite | None:
        """The one rewrite that makes a check fail, found by doing only the first few: with those before it the check passes.

        Args:
          check: takes a function like this one, of one phase; fails by raising an exception or by giving False.
        Returns: None if the check passes.
        Raises: ArgumentError if the check fails without any rewrite too.
        """

        def check_graph(graph: Graph) -> Any:
            return check(self.changed(graph, self.engine.name, chosen(False)))

        return bisected(lambda record: self._after(self.passes, training, record), check_graph)

    def changed(self, graph: Graph | None = None, engine: str | None = None, passes: Passes | None = None) -> Function:
        """A function like this one: of another graph with the same inputs, on another engine, with other passes. What is None
        stays as it is. Raises EngineError."""
        kept = None if self._engine is None else self._engine.name
        state = (self._fed_phase, self._shown, self._names, self._single, self._made)
        graph, passes = graph or self.graph, passes or self.passes
        return restored(graph, *state, engine or kept, passes, self.options)

    def trace_nan(self, *args: Any, training: bool = False, **named: Any) -> NotFinite | None:
        """The first node whose result is not finite, though what it was made of is, for the values of a call. Print it.

        The graph is computed as it was built, without the rules, by NumPy, one node after the other; of branches the sides that
        are taken, of loops each step. Nothing is written, and streams of random numbers stay where they are.

        Args:
          args, named: as of a call.
        Returns: None if every number is finite.
        """
        graph = run_pipeline(self.graph, int(training), chosen(False))
        arrays, _ = self._values(args, named)
        return first_not_finite(graph, {**arrays, **held(graph)})

    def profile(self, *args: Any, runs: int = 10, training: Any = None, **named: Any) -> Profile:
        """Where the time of a call goes, measured on the engine: by node of the optimised graph, and by line. Print it.

        On NumPy a twin of the program looks at the clock around every statement. That lengthens a call by about a microsecond
        each, which is no node's time. On TensorFlow and Theano the times are those of their own traces, and the bytes those of
        the model of costs at the sizes fed. What Theano has fused is divided by the operations that the model counts. What
        belongs to no node is a row. Nothing is written, and streams of random numbers stay where they are.

        Args:
          args, named, training: as of a call.
          runs: how many times, after one that does not count.
        Raises: what a call raises; EngineError for an engine that does not measure; ArgumentError.
        """
        return profiled(self, args, named, runs, training)

    def memory(self, *args: Any, training: Any = None, **named: Any) -> Memory:
        """The most memory that a call holds at a time, and what holds it then: variables, and nodes with their lines. Print it.

        Measured while NumPy's program runs with these values: what is freed, shared and written over is so there. Other engines
        hold variables, and what is needed later, too; but they fuse nodes, choose another order, keep memory between calls, and
        hold variables besides NumPy's copy: for them it is a guide. Nothing is written, and streams stay where they are.

        Args:
          args, named, training: as of a call.
        Raises: what a call raises.
        """
        state = (self._fed_phase, self._shown, self._names, self._single, self._made)
        return remembered(restored(self.graph, *state, "numpy", self.passes, {}), args, named, training)

    def _values(self, args: Sequence[Any], named: dict[str, Any], training: Any = None) -> tuple[dict[Node, Any], int]:
        """The values of the placeholders for the arguments of a call, as arrays, and the phase."""
        values: Sequence[Any] = args[0] if len(args) == 1 and isinstance(args[0], (list, tuple)) else args
        values, now = self._arrange(values, named)
        now = now if training is None else _as_phase(training, self._made)
        return dict(zip(self.feeds.nodes, self.feeds.admit(values), strict=True)), now

    def _after(self, passes: Passes, training: bool, record: Record) -> Graph:
        """The graph of one phase after some of its passes: as the engine gets it, if these are all."""
        ops = self.engine.rules.keys() if passes == self.passes else None
        return run_pipeline(self.graph, int(training), passes, ops, record)

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
            known = self._calls.get(now)  # one look: what a generation drops, it drops without the lock
            if known is not None:
                return known
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
            if entry.program is not None:
                self._programs[now] = entry.program
            self._calls[now] = call
            return call

    def _closed(self, now: int, built: Listing, engine: Engine, record: Record | None = None) -> tuple[Graph, list[Node]]:
        """The optimised graph with its arguments as inputs, and the large constants that the passes made."""
        graph = self.optimized(bool(now), record)
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
        try:
            program: Any = self._bound(now, built, engine)
        except EngineError as error:
            raise self._placed(error) from error.__cause__
        self._programs[now] = program
        if hasattr(program, "forget"):
            program.forget = lambda number=program.generation: _dropped(this(), now, number)
        return caller.make(program, engine, lambda *values: _alive(this)._rebound(now, values))

    def _bound(self, now: int, built: Listing, engine: Engine) -> Callable[..., Any]:
        """The program of a stateful engine over the storages of this function's variables."""
        closed, _ = self._closed(now, built, engine)
        return engine.bind(closed, self._storages(closed, engine), self.options)

    def _storages(self, closed: Graph, engine: Engine) -> dict[Node, Any]:
        """A stateful engine's storages of the variables of a graph, with their values."""
        variables = dict.fromkeys([n for n in closed.inputs if n.op is o.variable] + [v for v, _ in closed.updates])
        storages: dict[Node, Any] = {}
        for node in variables:
            variable: Variable = node.attr("uid")
            copy = variable.copy_in(engine)
            with variable.lock:
                if copy.version != variable.version:
                    variable.refresh(copy)
            storages[node] = copy.storage
        return storages

    def _rebound(self, now: int, values: Sequence[Any]) -> list[Any]:
        """The call, after the engine has begun a new generation."""
        with self._lock:
            self._calls.pop(now, None)
        return self._compile(now)(*values)

    # ------------------------------------------------------------------------------------------------ errors

    def _explained(self, error: Exception, now: int, program: Any = None) -> Exception:
        """An exception of a program of a phase with the node that raised it: the K function, its operands, the user's line."""
        program = program or self._programs.get(now)
        if isinstance(error, KGraphError) and error.place:
            return error
        path: Sequence[tuple[str, int]] = ()
        if hasattr(program, "explain"):
            error, path = program.explain(error)
        elif hasattr(program, "locate"):
            path = program.locate(error.__traceback__)
        if not path:
            return self._placed(error) if isinstance(error, KGraphError) else error
        node, origin = self._node_at(path, now)
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
        return node.op.explained(explained, node.inputs, origin)

    def _placed(self, error: KGraphError) -> KGraphError:
        return error.at("function call", (), f"{self._made} (the function)")

    def _node_at(self, path: Sequence[tuple[str, int]], now: int) -> tuple[Node, Origin]:
        """The node of this function at a place in the program, which may have been compiled for another one like it; its line.

        Functions share bodies that are equal, with the lines of one of them. So the node of a body is taken back to where it
        was built, over what the body is given.
        """
        record = Record()  # holds on to what is sunk: nodes with this function's own lines
        graph, _ = self._closed(now, self._listing(), self.engine, record)
        node = toposort(graph.roots, stop=graph.inputs)[path[0][1]]
        twin = node  # the same over what the user has built it over, which in a body has the user's line
        for attr, number in path[1:]:
            body: Graph = node.attr(attr)
            inside = toposort(body.roots, stop=body.inputs)[number]
            count = len(node.inputs) - len(body.inputs)
            looped = node.op is o.scan
            given = o.first_step(node) if looped else node.inputs[count:]
            over = body.built_as[: len(body.inputs)] if looped else twin.inputs[count:]
            (twin,) = substitute([inside], dict(zip(body.inputs, over, strict=False)))
            (node,) = substitute([inside], dict(zip(body.inputs, given, strict=True)))
        return node, twin.origin

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self.graph, self._fed_phase, self._shown, self._names, self._single, self._made)
        return restored, (*state, None if self._engine is None else self._engine.name, self.passes, self.options)

    def __deepcopy__(self, memo: dict[int, Any]) -> Function:
        return self

    def __repr__(self) -> str:
        engine = settings.engine if self._engine is None else self._engine.name
        takes = ", ".join(map(repr, self._names)) or "nothing"
        gives = f"{len(self.graph.outputs)} outputs, {len(self.graph.updates)} updates"
        return f"<Function of {takes}: {gives}, on {engine}, made at {self._made}>"


def restored(
    graph: Graph, fed_phase: int | None, shown: list[str], names: list[Any], single: bool, made: Origin,
    engine: str | None, passes: Passes, options: dict[str, Any],
) -> Function:  # fmt: skip
    """The function of a pickle, or of a file: what `Function` keeps, as it is."""
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


def _dropped(function: Function | None, now: int, generation: int) -> None:
    """Take its program of a phase, and of a generation, from a function, if it is alive: its next call makes another one."""
    found = None if function is None else function._programs.get(now)
    if function is not None and found is not None and found.generation == generation:
        function._calls.pop(now, None)
        function._programs.pop(now, None)


def _identity(node: Node) -> Any:
    return node.attrs[0][1] if node.op is o.constant else node.attr("uid")


def _as_phase(value: Any, made: Origin) -> int:
    if value.__class__ is bool:
        return int(value)  # at once: it comes with every call of a loop that trains
    found = np.asarray(value)
    if found.size != 1 or found.dtype.kind not in "biuf" or found.item() not in (0, 1):
        raise refused(f"the learning phase is {value!r:.60}, not 0 (test) or 1 (train)", made)
    return int(found.item())


def warn_of_foreign(names: Iterable[str]) -> None:
    """Accept the arguments that Theano or TensorFlow took, with one warning each. Raises TypeError for any other."""
    for name in names:
        if name not in FOREIGN:
            raise TypeError(f"K.function has no argument {name!r}")
        if name not in _warned:
            _warned.add(name)
            warnings.warn(f"K.function: {name!r} means nothing here and is ignored", stacklevel=3)
