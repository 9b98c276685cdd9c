"""The functions of Keras 1.2.2's backend, with its signatures; and that each function has rows or tests."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from kgraph import backend as K
from tests.kcases import KCASES

# Those of the Keras 1.x page and of Keras 1.2.2. What is for images, for loops and for CTC comes later.
SIGNATURES = """
    abs(x)
    all(x, axis=None, keepdims=False)
    any(x, axis=None, keepdims=False)
    arange(start, stop=None, step=1, dtype='int32')
    argmax(x, axis=-1)
    argmin(x, axis=-1)
    backend()
    batch_dot(x, y, axes=None)
    batch_flatten(x)
    batch_get_value(xs)
    batch_set_value(tuples)
    binary_crossentropy(output, target, from_logits=False)
    cast(x, dtype)
    cast_to_floatx(x)
    categorical_crossentropy(output, target, from_logits=False)
    clear_session()
    clip(x, min_value, max_value)
    concatenate(tensors, axis=-1)
    cos(x)
    count_params(x)
    dot(x, y)
    dropout(x, level, noise_shape=None, seed=None)
    dtype(x)
    elu(x, alpha=1.0)
    epsilon()
    equal(x, y)
    eval(x)
    exp(x)
    expand_dims(x, dim=-1)
    eye(size, dtype=None, name=None)
    flatten(x)
    floatx()
    function(inputs, outputs, updates=[], **kwargs)
    gather(reference, indices)
    get_session()
    get_uid(prefix='')
    get_value(x)
    get_variable_shape(x)
    gradients(loss, variables)
    greater(x, y)
    greater_equal(x, y)
    hard_sigmoid(x)
    image_dim_ordering()
    in_test_phase(x, alt)
    in_top_k(predictions, targets, k)
    in_train_phase(x, alt)
    int_shape(x)
    is_keras_tensor(x)
    is_sparse(tensor)
    l2_normalize(x, axis)
    learning_phase()
    legacy_weight_ordering()
    lesser(x, y)
    lesser_equal(x, y)
    log(x)
    manual_variable_initialization(value)
    max(x, axis=None, keepdims=False)
    maximum(x, y)
    mean(x, axis=None, keepdims=False)
    min(x, axis=None, keepdims=False)
    minimum(x, y)
    moving_average_update(variable, value, momentum)
    ndim(x)
    not_equal(x, y)
    one_hot(indices, nb_classes)
    ones(shape, dtype=None, name=None)
    ones_like(x, dtype=None, name=None)
    pattern_broadcast(x, broatcastable)
    permute_dimensions(x, pattern)
    placeholder(shape=None, ndim=None, dtype=None, sparse=False, name=None)
    pow(x, a)
    print_tensor(x, message='')
    prod(x, axis=None, keepdims=False)
    random_binomial(shape, p=0.0, dtype=None, seed=None)
    random_normal(shape, mean=0.0, std=1.0, dtype=None, seed=None)
    random_normal_variable(shape, mean, scale, dtype=None, name=None)
    random_uniform(shape, low=0.0, high=1.0, dtype=None, seed=None)
    random_uniform_variable(shape, low, high, dtype=None, name=None)
    relu(x, alpha=0.0, max_value=None)
    repeat(x, n)
    repeat_elements(x, rep, axis)
    reshape(x, shape)
    reverse(x, axes)
    round(x)
    set_epsilon(e)
    set_floatx(floatx)
    set_image_dim_ordering(dim_ordering)
    set_learning_phase(value)
    set_legacy_weight_ordering(value)
    set_session(session)
    set_value(x, value)
    shape(x)
    sigmoid(x)
    sign(x)
    sin(x)
    softmax(x)
    softplus(x)
    softsign(x)
    sparse_categorical_crossentropy(output, target, from_logits=False)
    sqrt(x)
    square(x)
    squeeze(x, axis)
    stack(x)
    std(x, axis=None, keepdims=False)
    stop_gradient(variables)
    sum(x, axis=None, keepdims=False)
    switch(condition, then_expression, else_expression)
    tanh(x)
    tile(x, n)
    to_dense(tensor)
    transpose(x)
    update(x, new_x)
    update_add(x, increment)
    update_sub(x, decrement)
    var(x, axis=None, keepdims=False)
    variable(value, dtype=None, name=None)
    zeros(shape, dtype=None, name=None)
    zeros_like(x, dtype=None, name=None)
""".split("\n")[1:-1]

#: What kgraph's functions take besides; each has a default.
MORE = {
    "function": ["engine", "optimize", "options"],
    "gradients": ["disconnected"],
    "random_normal_variable": ["seed"],
    "random_uniform_variable": ["seed"],
}

#: Functions that are not in Keras 1.2.2, and their signatures.
OWN = """
    cumprod(x, axis=0)
    cumsum(x, axis=0)
    identity(x, name=None)
    logsumexp(x, axis=None, keepdims=False)
    name_scope(name)
    set_backend(name)
    set_seed(seed)
""".split("\n")[1:-1]


def parameters(text: str) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults, as Python reads a signature."""
    scope: dict[str, Any] = {}
    exec(f"def {text.strip()}: pass", scope)
    function = next(value for name, value in scope.items() if inspect.isfunction(value))
    return described(function)


def described(function: Any) -> list[tuple[str, Any, Any]]:
    found = []
    for p in inspect.signature(function).parameters.values():
        default = p.default
        found.append((p.name, p.kind, () if isinstance(default, list) else default))  # [] and () are the same default
    return found


@pytest.mark.parametrize("signature", [*SIGNATURES, *OWN], ids=lambda text: text.strip().partition("(")[0])
def test_each_function_has_the_signature_of_keras(signature: str) -> None:
    name = signature.strip().partition("(")[0]
    assert name in K.__all__
    found = described(getattr(K, name))
    more = [p for p in found if p[0] in MORE.get(name, [])]
    assert [p for p in found if p not in more] == parameters(signature)
    assert [p[0] for p in more] == MORE.get(name, [])
    assert all(default is not inspect.Parameter.empty for _, _, default in more)


def test_there_is_no_other_function() -> None:
    named = [text.strip().partition("(")[0] for text in [*SIGNATURES, *OWN]]
    assert len(set(named)) == len(named)
    assert set(K.__all__) - set(named) <= LATER
    assert set(named) <= set(K.__all__)
    assert all(callable(getattr(K, name)) and getattr(K, name).__doc__ for name in K.__all__)


#: Functions that other issues bring, with tests of their own.
LATER: set[str] = set()
