"""Random functions: distribution, shape, dtype, streams and seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kgraph import backend as K
from kgraph.config import changed
from kgraph.errors import DTypeError, ShapeError
from tests.process import run_python

MANY = 200_000
FLOATS = ("float16", "float32", "float64")

#: Each as ``(shape, seed) -> tensor``.
DRAWS: dict[str, Callable[..., Any]] = {
    "normal": lambda shape, seed=None: K.random_normal(shape, mean=1.0, std=2.0, seed=seed),
    "standard normal": lambda shape, seed=None: K.random_normal(shape, seed=seed),
    "uniform": lambda shape, seed=None: K.random_uniform(shape, low=-1.0, high=3.0, seed=seed),
    "standard uniform": lambda shape, seed=None: K.random_uniform(shape, seed=seed),
    "binomial": lambda shape, seed=None: K.random_binomial(shape, p=0.5, seed=seed),
    "dropout": lambda shape, seed=None: K.dropout(K.zeros(shape) + 1.0, 0.5, seed=seed),
}
each_draw = pytest.mark.parametrize("draw", list(DRAWS.values()), ids=list(DRAWS))


def drawn(tensor: Any, engine: str) -> Any:
    return K.function([], tensor, engine=engine)()


def assert_mean(x: Any, mean: float, std: float) -> None:
    """The mean of independent draws, within six standard errors."""
    assert abs(float(np.mean(x, dtype="float64")) - mean) < 6 * std / math.sqrt(x.size)


# ---------------------------------------------------------------------------------------------------- distributions


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (3.0, 0.5), (-1.0, 2.0)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_normal_moments_and_quantiles(dtype: str, mean: float, std: float, engine: str) -> None:
    x = drawn(K.random_normal((MANY,), mean, std, dtype=dtype, seed=1), engine)
    assert x.dtype == dtype
    z = (x.astype("float64") - mean) / std
    assert_mean(z, 0, 1)
    assert_mean(z**2, 1, math.sqrt(2))
    assert_mean(z**3, 0, math.sqrt(15))
    assert_mean(z**4, 3, math.sqrt(96))
    for limit in (0.5, 1.0, 2.0, 3.0):
        share = math.erf(limit / math.sqrt(2))
        # float16 holds few numbers: what is rounded to the limit itself is on either side
        assert_mean((np.abs(z) < limit).astype(float), share, 0.5 if dtype != "float16" else 3)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 5.0), (2.0, 2.5)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_moments_and_range(dtype: str, low: float, high: float, engine: str) -> None:
    x = drawn(K.random_uniform((MANY,), low, high, dtype=dtype, seed=1), engine)
    assert x.dtype == dtype
    u = (x.astype("float64") - low) / (high - low)
    assert u.min() >= 0
    assert u.max() < 1 if (low, high) == (0, 1) else u.max() <= 1
    # float16 holds multiples of 2 ** -11: half a step below, on the average
    assert_mean(u, 0.5, 1 / math.sqrt(12) if dtype != "float16" else 1)
    counts = np.histogram(u, bins=16, range=(0, 1))[0]
    if dtype != "float16":
        chi_squared = ((counts - MANY / 16) ** 2 / (MANY / 16)).sum()
        assert chi_squared < 60  # 15 degrees of freedom: beyond 60 in one of 4 million


def test_float16_draws_stay_below_one(engine: str) -> None:
    x = drawn(K.random_uniform((MANY,), dtype="float16", seed=3), engine)
    assert x.min() >= 0
    assert x.max() < 1
    assert len(np.unique(x)) == 2048


@pytest.mark.parametrize("p", [0.0, 0.001, 0.3, 0.75, 1.0])
@pytest.mark.parametrize("dtype", [*FLOATS, "int32", "uint8", "bool"])
def test_binomial_draws_are_one_with_probability_p(p: float, dtype: str, engine: str) -> None:
    x = drawn(K.random_binomial((MANY,), p, dtype=dtype, seed=1), engine)
    assert x.dtype == dtype
    assert set(np.unique(x.astype("float64"))) <= {0.0, 1.0}
    if p in (0, 1):
        assert (x == p).all()
    assert_mean(x.astype("float64"), p, math.sqrt(p * (1 - p)) + 1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
def test_random_variables_are_drawn_when_they_are_made(dtype: str) -> None:
    normal = K.random_normal_variable((MANY,), 1.0, 2.0, dtype=dtype, seed=1)
    uniform = K.random_uniform_variable((400, 500), -1.0, np.float64(3.0), dtype=dtype, seed=1)
    x, u = K.get_value(normal).astype("float64"), K.get_value(uniform).astype("float64")
    assert (K.dtype(normal), K.dtype(uniform), K.int_shape(normal), K.int_shape(uniform)) == (dtype, dtype, (MANY,), (400, 500))
    assert_mean(x, 1, 2)
    assert_mean((x - 1) ** 2, 4, 4 * math.sqrt(2))
    assert_mean(u, 1, 4 / math.sqrt(12))
    assert u.min() >= -1
    assert u.max() <= 3
    np.testing.assert_array_equal(K.get_value(normal), x)  # a value, drawn once


def test_random_variables_follow_the_seed_of_numpy_or_their_own() -> None:
    def values(seed: int | None) -> list[Any]:
        made = [
            K.random_normal_variable([3], 0, 1, seed=seed),
            K.random_uniform_variable((3,), 0, 1, seed=seed),
            K.random_normal_variable((3,), 0, 1, seed=seed),
        ]
        return [K.get_value(v).tolist() for v in made]

    K.set_seed(7)
    first = values(None)
    assert first[0] != first[2]
    K.set_seed(7)
    assert values(None) == first
    assert values(5) == values(5)
    assert values(5)[0] == values(5)[2]


def test_names_and_dtypes_of_random_variables() -> None:
    v = K.random_normal_variable((2,), 0.0, 1.0, name="w")
    assert (v.name, K.dtype(v)) == ("w", "float32")
    with changed(floatx="float64"):
        assert K.dtype(K.random_uniform_variable((2,), 0.0, 1.0)) == "float64"


# ---------------------------------------------------------------------------------------------------- shapes and operands


@each_draw
@pytest.mark.parametrize("shape", [(), (3,), [2, 3], (2, 0), (np.int64(2), 1), (1,)], ids=str)
def test_shapes_of_ints(draw: Any, shape: Any, engine: str) -> None:
    wanted = tuple(int(n) for n in shape)
    tensor = draw(shape)
    assert K.int_shape(tensor) == wanted
    assert drawn(tensor, engine).shape == wanted


@pytest.mark.parametrize("draw", [DRAWS["normal"], DRAWS["uniform"], DRAWS["binomial"]])
def test_symbolic_shapes(draw: Any, engine: str) -> None:
    x = K.placeholder((None, 3))
    n = K.placeholder((), dtype="int32")
    made = [
        draw(K.shape(x)),
        draw((K.shape(x)[0], 2)),
        draw((n,)),
        draw((4, n)),
        draw(K.stack([n, 2])),
        draw(K.shape(x)[:1]),
        draw([K.shape(x)[1], n * 2]),
    ]
    assert [K.int_shape(t) for t in made] == [(None, 3), (None, 2), (None,), (4, None), (None, 2), (None,), (3, None)]
    run = K.function([x, n], made, engine=engine)
    for rows, size in ((5, 2), (1, 0), (0, 3)):
        shapes = [value.shape for value in run([np.zeros((rows, 3)), size])]
        assert shapes == [(rows, 3), (rows, 2), (size,), (4, size), (size, 2), (rows,), (3, 2 * size)]


@pytest.mark.parametrize("shape", [3, "ab", (1.5,), (-1,), (None, 2)], ids=repr)
def test_what_is_no_shape_is_refused(shape: Any) -> None:
    for draw in (K.random_normal, K.random_uniform, K.random_binomial):
        with pytest.raises(ShapeError):
            draw(shape)


def test_only_floats_are_drawn() -> None:
    for draw in (K.random_normal, K.random_uniform):
        with pytest.raises(DTypeError):
            draw((2,), dtype="int32")


@pytest.mark.parametrize("floatx", FLOATS)
def test_the_dtype_is_floatx_unless_named(floatx: str) -> None:
    with changed(floatx=floatx):
        assert {K.dtype(draw((2,))) for draw in DRAWS.values()} == {floatx}
        assert K.dtype(K.random_normal((2,), dtype="float64")) == "float64"


def test_parameters_may_be_tensors_and_arrays_that_stretch(engine: str) -> None:
    centre, spread = K.placeholder((2,)), K.placeholder((3, 1))
    made = [
        K.random_normal((3, 2), mean=centre, std=0.0), K.random_uniform((3, 2), low=centre, high=centre), K.random_binomial((3, 2), p=spread),
        K.random_normal((3, 2), mean=np.array([1.0, 2.0]), std=0), K.random_uniform((3, 2), low=np.array([5.0, 6.0]), high=np.array([5.0, 6.0])),
        K.random_normal((3, 2), 7, 0.0),
    ]  # fmt: skip
    found = K.function([centre, spread], made, engine=engine)([[1, 2], [[0], [1], [0]]])
    rows = [[1, 2]] * 3
    wanted = [rows, rows, [[0, 0], [1, 1], [0, 0]], rows, [[5, 6]] * 3, [[7, 7]] * 3]
    assert [value.tolist() for value in found] == wanted


# ---------------------------------------------------------------------------------------------------- streams


@each_draw
def test_every_call_draws_anew(draw: Any, engine: str) -> None:
    run = K.function([], draw((50,)), engine=engine)
    calls = [run() for _ in range(4)]
    assert all(not np.array_equal(a, b) for a, b in itertools.combinations(calls, 2))


@each_draw
@pytest.mark.parametrize("optimize", [True, False])
def test_within_a_call_a_draw_has_one_value(draw: Any, optimize: bool, engine: str) -> None:
    r = draw((50,))
    run = K.function([], [r, r + 1.0, K.exp(r), r], engine=engine, optimize=optimize)
    for _ in range(2):
        a, plus, exp, again = run()
        np.testing.assert_array_equal(a, again)
        np.testing.assert_allclose(plus, a + 1, rtol=1e-6)
        np.testing.assert_allclose(exp, np.exp(a), rtol=1e-6)


@each_draw
def test_forward_and_backward_see_one_value(draw: Any, engine: str) -> None:
    x, r = K.variable(np.ones(50)), draw((50,))
    run = K.function([], [r, K.gradients(K.sum(x * x * r), [x])[0]], engine=engine)
    for _ in range(2):
        value, slope = run()
        np.testing.assert_allclose(slope, 2 * value, rtol=1e-6)


@each_draw
def test_two_draws_alike_are_two_draws(draw: Any, engine: str) -> None:
    a, b = K.function([], [draw((50,)), draw((50,))], engine=engine)()
    assert not np.array_equal(a, b)


@each_draw
def test_a_seed_fixes_the_stream(draw: Any, engine: str) -> None:
    def program(seed: int) -> list[Any]:
        run = K.function([], draw((50,), seed), engine=engine)
        return [run() for _ in range(3)]

    np.testing.assert_array_equal(program(5), program(5))
    assert not np.array_equal(program(5), program(6))
    assert not np.array_equal(program(-5), program(5))
    np.testing.assert_array_equal(program(np.int64(5)), program(5))


@each_draw
@pytest.mark.parametrize("seed_all", [K.set_seed, np.random.seed], ids=["set_seed", "np.random.seed"])
def test_without_a_seed_np_random_makes_a_program_repeatable(draw: Any, seed_all: Any, engine: str) -> None:
    def program(seed: int) -> list[Any]:
        seed_all(seed)
        run = K.function([], [draw((50,)), draw((50,))], engine=engine)
        return [*run(), *run()]

    np.testing.assert_array_equal(program(5), program(5))
    assert not np.array_equal(program(5), program(6))


@pytest.mark.parametrize("seed", [1.5, "a", [1]], ids=repr)
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    for draw in DRAWS.values():
        with pytest.raises(DTypeError):
            draw((2,), seed)


@pytest.mark.parametrize("name", ["standard normal", "standard uniform"])
def test_streams_and_calls_are_independent_of_one_another(name: str, engine: str) -> None:
    n = 20_000
    tensors = [DRAWS[name]((n,), seed) for seed in (0, 1, 2, -1, 2**31 - 1)]
    run = K.function([], tensors, engine=engine)
    rows = [x.astype("float64") for _ in range(3) for x in run()]
    correlations = np.corrcoef(rows)[np.triu_indices(len(rows), 1)]
    assert np.abs(correlations).max() < 6 / math.sqrt(n)
    for x in rows:  # and of their own neighbours
        assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 6 / math.sqrt(n)


def test_the_same_numbers_in_every_process_whatever_its_hash_seed(engine: str) -> None:
    program = f"""
from kgraph import backend as K
K.set_seed(11)
x = K.random_uniform_variable((3,), 0., 1.)
made = [K.random_normal((3,)), K.random_uniform((3,), -1., 1.), K.random_binomial((9,), .5), K.dropout(x, .5), x, K.random_normal_variable((2,), 0., 1.)]
made += [K.random_normal((3,), seed=4, dtype="float64"), K.gradients(K.sum(made[3]), [x])[0], K.random_uniform((2,), seed=2, dtype="float16")]
run = K.function([], made, engine={engine!r})
print([r.tobytes().hex() for _ in range(2) for r in run()])
"""
    assert len({run_python(program, PYTHONHASHSEED=seed) for seed in ("0", "1", "4242")}) == 1


# ---------------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", FLOATS)
def test_dropout_keeps_with_probability_one_minus_level_and_scales(level: float, dtype: str, engine: str) -> None:
    x = np.full(MANY, 2.0, dtype)
    out = drawn(K.dropout(K.variable(x, dtype=dtype), level, seed=1), engine)
    assert out.dtype == dtype
    scaled = np.unique(out.astype("float64"))
    assert scaled[0] == 0
    np.testing.assert_allclose(scaled[1:], [2 / (1 - level)], rtol=2e-3 if dtype == "float16" else 1e-6)
    assert_mean((out != 0).astype(float), 1 - level, math.sqrt(level * (1 - level)))


def test_dropout_at_level_zero_is_the_tensor_itself(engine: str) -> None:
    x = K.variable([1.0, np.nan, np.inf])
    out = K.dropout(x, 0.0)
    assert out is not x
    np.testing.assert_array_equal(drawn(out, engine), [1, np.nan, np.inf])


@pytest.mark.parametrize("level", [-0.1, 1.0, 1.5, float("nan")])
def test_a_level_outside_of_its_range_is_an_error(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        K.dropout(K.variable([1.0]), level)


def test_the_gradient_of_dropout_is_its_mask(engine: str) -> None:
    x = K.placeholder((None, 10))
    out = K.dropout(x, 0.3, seed=2)
    run = K.function([x], [out, K.gradients(K.sum(out), [x])[0]], engine=engine)
    value = np.arange(1, 201, dtype="float32").reshape(20, 10)
    for _ in range(2):
        found, mask = run([value])
        np.testing.assert_allclose(found, value * mask, rtol=1e-6)
        np.testing.assert_allclose(np.unique(mask), [0, 1 / 0.7], rtol=1e-6)


def test_the_noise_shape_of_dropout_drops_along_whole_axes(engine: str) -> None:
    x = K.variable(np.ones((30, 4, 5)))
    rows, columns = K.shape(x)[0], K.shape(x)[2]
    for noise_shape, axis in [
        ((30, 1, 5), 1),
        ([30, 4, 1], 2),
        ((None, 1, None), 1),
        ((1, 4, 5), 0),
        ((rows, 1, columns), 1),
        (K.stack([rows, 1, columns]), 1),
    ]:
        out = drawn(K.dropout(x, 0.5, noise_shape=noise_shape, seed=3), engine)
        assert out.shape == (30, 4, 5)
        assert set(np.unique(out)) == {0, 2}
        assert (out == out.take([0], axis)).all()
    everywhere = drawn(K.dropout(x, 0.5, noise_shape=(30, 4, 5), seed=3), engine)
    assert not (everywhere == everywhere.take([0], 1)).all()


def test_the_noise_shape_of_dropout_over_unknown_sizes(engine: str) -> None:
    x = K.placeholder((None, None, 4))
    out = K.dropout(x, 0.5, noise_shape=(K.shape(x)[0], 1, 4), seed=3)
    found = K.function([x], out, engine=engine)([np.ones((20, 3, 4))])
    assert found.shape == (20, 3, 4)
    assert (found == found[:, :1]).all()
    assert set(np.unique(found)) == {0, 2}


@pytest.mark.parametrize("noise_shape", [(3,), (3, 5), (2, 4), (3, 4, 1)], ids=str)
def test_a_noise_shape_that_does_not_fit_is_refused(noise_shape: Any) -> None:
    with pytest.raises(ShapeError):
        K.dropout(K.zeros((3, 4)), 0.5, noise_shape=noise_shape)


def test_the_level_of_dropout_may_be_a_tensor(engine: str) -> None:
    level = K.placeholder(())
    out = K.dropout(K.variable(np.ones(MANY)), level, seed=1)
    run = K.function([level], out, engine=engine)
    for p in (0.0, 0.25, 0.8):
        found = run([p])
        assert_mean((found != 0).astype(float), 1 - p, math.sqrt(p * (1 - p)) + 1e-12)
        np.testing.assert_allclose(found[found != 0], 1 / (1 - p), rtol=1e-5)


def test_dropout_of_integers_gives_floatx(engine: str) -> None:
    out = drawn(K.dropout(K.variable([3] * 100, dtype="int32"), 0.5, seed=1), engine)
    assert out.dtype == "float32"
    assert set(out.tolist()) == {0.0, 6.0}


def test_dropout_in_the_train_phase_only(engine: str) -> None:
    x = K.placeholder((None,))
    run = K.function([x], K.in_train_phase(lambda: K.dropout(x, 0.5, seed=1), x), engine=engine)
    ones = np.ones(100, "float32")
    np.testing.assert_array_equal(run([ones]), ones)
    assert set(run([ones], training=True).tolist()) == {0.0, 2.0}
