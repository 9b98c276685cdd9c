"""The TensorFlow engine where it takes a process of its own: the order of imports, fork, a cluster, memory over a thousand functions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.process import run_python

MODEL = """
import numpy as np
from kgraph import backend as K

class Counter:
    def __init__(self, engine="tensorflow"):
        self.total, x = K.variable([0.0, 0.0]), K.placeholder((2,))
        self.add = K.function([x], self.total, [K.update_add(self.total, x)], engine=engine)
        self.wanted = np.zeros(2)

    def check(self):
        np.testing.assert_array_equal(self.add([[1, 10]]), self.wanted)
        self.wanted += [1, 10]
        np.testing.assert_array_equal(K.get_value(self.total), self.wanted)
"""


# ---------------------------------------------------------------------------------------------------- imports


def test_tensorflow_is_imported_when_it_is_first_needed_and_not_before() -> None:
    program = (
        MODEL
        + """
import sys
counter = Counter("numpy")
counter.check()
K.clear_session()
K.gradients(K.sum(K.exp(counter.total)), [counter.total])
assert K.backend() == "tensorflow"  # the environment asks for it
assert not {"tensorflow", "keras", "kgraph.lower.tensorflow"} & set(sys.modules)
assert K.eval(counter.total * 2).tolist() == [2, 20]
assert "tensorflow" in sys.modules
"""
    )
    run_python(program, KGRAPH_BACKEND="tensorflow")


BESIDE = """
import tensorflow as tf
assert tf.executing_eagerly()
assert tf.reduce_sum(tf.constant([1.0, 2.0])).numpy() == 3
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_tensorflow_is_used_beside_kgraph_whichever_is_imported_first(order: str) -> None:
    use = "Counter().check()\n"
    run_python(BESIDE + MODEL + use + BESIDE if order == "before" else MODEL + use + BESIDE + use)


def test_programs_of_tensorflow_1_go_on_as_they_did() -> None:
    run_python(
        "import tensorflow.compat.v1 as tf\ntf.disable_v2_behavior()\n"
        + MODEL
        + """
x = tf.placeholder(tf.float32, (2,))
counter = Counter()
counter.check()
v, i = K.variable([1.0, 2.0]), K.placeholder((), dtype="int32")
K.set_backend("tensorflow")
branch = K.function([i], K.switch(i > 0, lambda: K.gather(v, i), lambda: K.sum(K.exp(v - v))), [K.update_add(v, 1)])
assert branch([1]) == 2
assert branch([0]) == 2
try:
    branch([2])
except IndexError as error:
    assert "index 2 is out of bounds for axis 0 with size 2" in str(error)
assert K.get_value(v).tolist() == [3, 4]
with tf.Session() as session:
    counter.check()
    assert session.run(x * 2, {x: [1, 2]}).tolist() == [2, 4]
session = tf.Session()
K.set_session(session)
counter.check()
assert session.run(x * 2, {x: [1, 2]}).tolist() == [2, 4]
"""
    )


def test_importing_tensorflow_leaves_no_settings_file_that_would_make_it_the_default(tmp_path: Path) -> None:
    use = "from kgraph import backend as K\nassert K.backend() == 'numpy'\nprint(K.eval(K.variable(2.0) * 2), K.image_dim_ordering())"
    use_tensorflow = use + "\nK.set_backend('tensorflow')\nassert K.eval(K.variable(2.0) * 2) == 4"
    assert run_python(use_tensorflow, KERAS_HOME=str(tmp_path), KGRAPH_BACKEND="") == "4.0 th\n"
    assert list(tmp_path.iterdir()) == []


def test_importing_tensorflow_leaves_the_settings_file_of_the_user_alone(tmp_path: Path) -> None:
    mine = json.dumps({"floatx": "float64", "epsilon": 1e-7, "backend": "tensorflow", "image_data_format": "channels_last"})
    (tmp_path / "keras.json").write_text(mine)
    program = "from kgraph import backend as K\nprint(K.eval(K.variable(2.0)).dtype, K.backend(), K.image_dim_ordering())"
    assert run_python(program, KERAS_HOME=str(tmp_path), KGRAPH_BACKEND="") == "float64 tensorflow tf\n"
    assert (tmp_path / "keras.json").read_text() == mine


def test_without_tensorflow_the_engine_says_what_to_install() -> None:
    program = """
import sys
sys.modules["tensorflow"] = None  # what Python's import takes for a module that is not there
from kgraph import backend as K
try:
    K.set_backend("tensorflow")
except ValueError as error:
    print(error)
assert K.eval(K.variable(2.0)) == 2
"""
    lines = run_python(program).splitlines()
    assert lines[0] == "set_backend: TensorFlow is not installed"
    assert lines[-1] == "  hint: python -m pip install 'kgraph[tensorflow]'"


# ---------------------------------------------------------------------------------------------------- fork


FORK = """
import os

def in_child(run):
    child = os.fork()
    if not child:
        status = 1
        try:
            run()
            status = 0
        except BaseException as error:
            print(repr(error), flush=True)
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_a_fork_before_the_first_call_works_and_after_it_every_use_of_the_session_is_a_clear_error() -> None:
    program = (
        MODEL
        + FORK
        + """
import warnings
warnings.simplefilter("ignore")  # Python warns of forks while there are threads
from kgraph.lower.engine import get_engine
get_engine("tensorflow")
counter, idle, near = Counter(), Counter(), Counter("numpy")
in_child(counter.check)
counter.check()
x = K.placeholder(())
y = K.function([x], x * 2, engine="tensorflow")
y([1])
counter.add([[1, 10]])  # the value is in the session alone
counter.wanted += [1, 10]

def used_in_a_child():
    K.set_backend("tensorflow")
    for use in (counter.check, idle.check, lambda: y([1]), lambda: K.get_value(counter.total), lambda: K.eval(x_plus),
                K.get_session, K.clear_session):
        try:
            use()
        except ValueError as error:
            assert "TensorFlow does not work in a process that was forked from one in which it was in use" in str(error), error
            assert "multiprocessing's 'spawn' or 'forkserver'" in str(error)
        else:
            raise AssertionError(f"{use} is no error")
    near.check()
    K.set_value(counter.total, [1, 1])
    assert K.get_value(counter.total).tolist() == [1, 1]

x_plus = K.variable(1.0) + 1
in_child(used_in_a_child)
counter.check()
idle.check()
near.check()
"""
    )
    run_python(program)


# ---------------------------------------------------------------------------------------------------- a cluster


def test_functions_run_in_a_session_on_a_cluster() -> None:
    program = (
        MODEL
        + """
import tensorflow as tf
server = tf.compat.v1.train.Server.create_local_server()
K.set_backend("tensorflow")
counter = Counter()
counter.check()
K.set_session(tf.compat.v1.Session(server.target, graph=tf.Graph()))
for _ in range(3):
    counter.check()
v, i = K.variable([1.0, 2.0]), K.placeholder((), dtype="int32")
row = K.function([i], K.gather(v, i), [K.update_add(v, 1)])
assert row([1]) == 2
try:
    row([2])
except IndexError as error:
    assert "index 2 is out of bounds for axis 0 with size 2" in str(error)
else:
    raise AssertionError
assert K.get_value(v).tolist() == [2, 3]
K.clear_session()
counter.check()
assert row([0]) == 2
"""
    )
    run_python(program)


# ---------------------------------------------------------------------------------------------------- memory


GROWTH = """
import os
import numpy as np
import tensorflow as tf
from kgraph import backend as K

K.set_backend("tensorflow")

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the resident memory is read from Linux's /proc")


@needs_proc
def test_a_thousand_functions_made_and_dropped_leave_no_memory_and_no_ops() -> None:
    program = (
        GROWTH
        + """
def one(i):
    x, w = K.placeholder((None, 8)), K.variable(np.ones((8, 8)))
    y = K.dot(x, w)
    for j in range(3):
        y = K.tanh(y) * (1.0 + i) if (i >> j) & 1 else K.sigmoid(y) - float(i)
    K.function([x], [K.mean(y)], [(w, w + K.sum(y))])([np.ones((4, 8))])

most = [0, 0]
for i in range(1000):
    if i == 500:
        before = resident()
    one(i)
    most[i // 500] = max(most[i // 500], K.get_session().graph.version)
print((resident() - before) / 1e6, *most)
"""
    )
    grown, first, last = run_python(program).split()
    assert float(grown) < 20
    assert int(last) <= 1.2 * int(first)


@needs_proc
def test_variables_that_are_dropped_give_their_memory_back_also_in_a_session_of_the_user() -> None:
    program = (
        GROWTH
        + """
K.set_session(tf.compat.v1.Session(graph=tf.Graph()))

def one():
    v = K.zeros((1000, 1000))  # 4 MB
    K.function([], [], [(v, v + 1.0)])()

for i in range(100):
    if i == 50:
        before = resident()
    one()
print((resident() - before) / 1e6)
"""
    )
    assert float(run_python(program)) < 60  # of 200
