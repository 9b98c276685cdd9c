"""The functions of Keras 1.2.2's backend, with its signatures; and that each function has rows or tests."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from kgraph import backend as K
from tests.kcases import KCASES

# Those of the Keras 1.x page and of Keras 1.2.2.
SIGNATURES = [
    "",
    "    abs(x)",
    "    all(x, axis=None, keepdims=False)",
    "    any(x, axis=None, keepdims=False)",
    "    arange(start, stop=None, step=1, dtype='int32')",
    "    argmax(x, axis=-1)",
    "    argmin(x, axis=-1)",
    "    atrous_conv2d(x, kernel, rate=1, border_mode='valid', dim_ordering='default', image_shape=None, filter_shape=None)",
    "    asymmetric_spatial_2d_padding(x, top_pad=1, bottom_pad=1, left_pad=1, right_pad=1, dim_ordering='default')",
    "    asymmetric_temporal_padding(x, left_pad=1, right_pad=1)",
    "    backend()",
    "    batch_dot(x, y, axes=None)",
    "    batch_flatten(x)",
    "    batch_get_value(xs)",
    "    batch_normalization(x, mean, var, beta, gamma, epsilon=0.001)",
    "    batch_set_value(tuples)",
    "    binary_crossentropy(output, target, from_logits=False)",
    "    cast(x, dtype)",
    "    cast_to_floatx(x)",
    "    categorical_crossentropy(output, target, from_logits=False)",
    "    clear_session()",
    "    clip(x, min_value, max_value)",
    "    concatenate(tensors, axis=-1)",
    "    conv1d(x, kernel, stride=1, border_mode='valid', image_shape=None, filter_shape=None)",
    "    conv2d(x, kernel, strides=(1, 1), border_mode='valid', dim_ordering='default', image_shape=None, filter_shape=None, filter_dilation=(1, 1))",
    "    conv3d(x, kernel, strides=(1, 1, 1), border_mode='valid', dim_ordering='default', volume_shape=None, filter_shape=None, filter_dilation=(1, 1, 1))",
    "    cos(x)",
    "    count_params(x)",
    "    deconv2d(x, kernel, output_shape, strides=(1, 1), border_mode='valid', dim_ordering='default', image_shape=None, filter_shape=None)",
    "    ctc_batch_cost(y_true, y_pred, input_length, label_length)",
    "    ctc_decode(y_pred, input_length, greedy=True, beam_width=100, top_paths=1)",
    "    ctc_label_dense_to_sparse(labels, label_lengths)",
    "    dot(x, y)",
    "    dropout(x, level, noise_shape=None, seed=None)",
    "    dtype(x)",
    "    elu(x, alpha=1.0)",
    "    epsilon()",
    "    equal(x, y)",
    "    eval(x)",
    "    exp(x)",
    "    expand_dims(x, dim=-1)",
    "    eye(size, dtype=None, name=None)",
    "    flatten(x)",
    "    floatx()",
    "    foldl(fn, elems, initializer=None, name=None)",
    "    foldr(fn, elems, initializer=None, name=None)",
    "    function(inputs, outputs, updates=[], **kwargs)",
    "    gather(reference, indices)",
    "    get_session()",
    "    get_uid(prefix='')",
    "    get_value(x)",
    "    get_variable_shape(x)",
    "    gradients(loss, variables)",
    "    greater(x, y)",
    "    greater_equal(x, y)",
    "    hard_sigmoid(x)",
    "    image_dim_ordering()",
    "    in_test_phase(x, alt)",
    "    in_top_k(predictions, targets, k)",
    "    in_train_phase(x, alt)",
    "    int_shape(x)",
    "    is_keras_tensor(x)",
    "    is_sparse(tensor)",
    "    l2_normalize(x, axis)",
    "    learning_phase()",
    "    legacy_weight_ordering()",
    "    lesser(x, y)",
    "    lesser_equal(x, y)",
    "    log(x)",
    "    manual_variable_initialization(value)",
    "    map_fn(fn, elems, name=None)",
    "    max(x, axis=None, keepdims=False)",
    "    maximum(x, y)",
    "    mean(x, axis=None, keepdims=False)",
    "    min(x, axis=None, keepdims=False)",
    "    minimum(x, y)",
    "    moving_average_update(variable, value, momentum)",
    "    ndim(x)",
    "    normalize_batch_in_training(x, gamma, beta, reduction_axes, epsilon=0.001)",
    "    not_equal(x, y)",
    "    one_hot(indices, nb_classes)",
    "    ones(shape, dtype=None, name=None)",
    "    ones_like(x, dtype=None, name=None)",
    "    pattern_broadcast(x, broatcastable)",
    "    permute_dimensions(x, pattern)",
    "    placeholder(shape=None, ndim=None, dtype=None, sparse=False, name=None)",
    "    pool2d(x, pool_size, strides=(1, 1), border_mode='valid', dim_ordering='default', pool_mode='max')",
    "    pool3d(x, pool_size, strides=(1, 1, 1), border_mode='valid', dim_ordering='default', pool_mode='max')",
    "    pow(x, a)",
    "    print_tensor(x, message='')",
    "    prod(x, axis=None, keepdims=False)",
    "    random_binomial(shape, p=0.0, dtype=None, seed=None)",
    "    random_normal(shape, mean=0.0, std=1.0, dtype=None, seed=None)",
    "    random_normal_variable(shape, mean, scale, dtype=None, name=None)",
    "    random_uniform(shape, low=0.0, high=1.0, dtype=None, seed=None)",
    "    random_uniform_variable(shape, low, high, dtype=None, name=None)",
    "    relu(x, alpha=0.0, max_value=None)",
    "    repeat(x, n)",
    "    repeat_elements(x, rep, axis)",
    "    reshape(x, shape)",
    "    resize_images(X, height_factor, width_factor, dim_ordering)",
    "    resize_volumes(X, depth_factor, height_factor, width_factor, dim_ordering)",
    "    reverse(x, axes)",
    "    rnn(step_function, inputs, initial_states, go_backwards=False, mask=None, constants=None, unroll=False, input_length=None)",
    "    round(x)",
    "    separable_conv2d(x, depthwise_kernel, pointwise_kernel, strides=(1, 1), border_mode='valid', dim_ordering='default')",
    "    set_epsilon(e)",
    "    set_floatx(floatx)",
    "    set_image_dim_ordering(dim_ordering)",
    "    set_learning_phase(value)",
    "    set_legacy_weight_ordering(value)",
    "    set_session(session)",
    "    set_value(x, value)",
    "    shape(x)",
    "    sigmoid(x)",
    "    sign(x)",
    "    sin(x)",
    "    softmax(x)",
    "    softplus(x)",
    "    softsign(x)",
    "    sparse_categorical_crossentropy(output, target, from_logits=False)",
    "    spatial_2d_padding(x, padding=(1, 1), dim_ordering='default')",
    "    spatial_3d_padding(x, padding=(1, 1, 1), dim_ordering='default')",
    "    sqrt(x)",
    "    square(x)",
    "    squeeze(x, axis)",
    "    stack(x)",
    "    std(x, axis=None, keepdims=False)",
    "    stop_gradient(variables)",
    "    sum(x, axis=None, keepdims=False)",
    "    switch(condition, then_expression, else_expression)",
    "    tanh(x)",
    "    temporal_padding(x, padding=1)",
    "    tile(x, n)",
    "    to_dense(tensor)",
    "    transpose(x)",
    "    update(x, new_x)",
    "    update_add(x, increment)",
    "    update_sub(x, decrement)",
    "    var(x, axis=None, keepdims=False)",
    "    variable(value, dtype=None, name=None)",
    "    zeros(shape, dtype=None, name=None)",
    "    zeros_like(x, dtype=None, name=None)",
    "",
][1:-1]

#: What kgraph's functions take besides; each has a default.
MORE = {
    "function": ["engine", "optimize", "options", "exclude", "finite"],
    "gradients": ["disconnected"],
    "random_normal_variable": ["seed"],
    "random_uniform_variable": ["seed"],
}

#: Functions that are not in Keras 1.2.2, and their signatures.
OWN = [
    "",
    "    bias_add(x, bias, dim_ordering='default')",
    "    cumprod(x, axis=0)",
    "    cumsum(x, axis=0)",
    "    identity(x, name=None)",
    "    logsumexp(x, axis=None, keepdims=False)",
    "    name_scope(name)",
    "    set_backend(name)",
    "    set_seed(seed)",
    "",
][1:-1]


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


#: Functions without a row in tests/kcases: the test of each.
TESTED_ELSEWHERE = {
    "backend": "backend.test_state:test_the_defaults",
    "batch_get_value": "backend.test_state:test_values_are_set_and_got",
    "batch_set_value": "backend.test_state:test_values_are_set_and_got",
    "cast_to_floatx": "backend.test_state:test_cast_to_floatx_gives_an_array",
    "clear_session": "backend.test_state:test_the_learning_phase_is_one_tensor_until_it_is_set",
    "count_params": "backend.test_state:test_count_params_is_a_numpy_integer",
    "dropout": "backend.test_random:test_dropout_keeps_with_probability_one_minus_level_and_scales",
    "dtype": "backend.test_state:test_the_dtype_of_a_placeholder_or_variable_is_a_plain_str",
    "epsilon": "backend.test_state:test_settings_hold_at_once",
    "eval": "backend.test_state:test_eval_takes_any_expression_without_placeholders",
    "eye": "backend.test_state:test_zeros_ones_and_eye_are_variables",
    "floatx": "backend.test_state:test_floatx_is_the_dtype_of_what_names_none",
    "function": "test_function:test_every_form_of_a_call_gives_the_same",
    "get_session": "backend.test_state:test_an_engine_without_sessions_says_so",
    "get_uid": "backend.test_state:test_uids_count_from_one_for_each_prefix",
    "get_value": "backend.test_state:test_values_are_set_and_got",
    "get_variable_shape": "backend.test_state:test_a_variable_takes_numbers_lists_and_arrays",
    "gradients": "backend.test_gradients:test_a_list_in_gives_a_list_out",
    "image_dim_ordering": "backend.test_state:test_settings_hold_at_once",
    "in_test_phase": "backend.test_state:test_which_side_of_a_phase",
    "in_train_phase": "backend.test_state:test_which_side_of_a_phase",
    "int_shape": "backend.test_state:test_int_shape_is_what_keras_has_set",
    "is_keras_tensor": "backend.test_state:test_a_placeholder_has_its_shape_and_the_marks_of_keras",
    "is_sparse": "backend.test_state:test_sparse_is_a_mark_of_placeholders_variables_and_what_joins_them",
    "learning_phase": "backend.test_state:test_the_learning_phase_is_one_tensor_until_it_is_set",
    "legacy_weight_ordering": "backend.test_state:test_names_that_keras_sets_and_asks_for",
    "manual_variable_initialization": "backend.test_state:test_names_that_keras_sets_and_asks_for",
    "moving_average_update": "backend.test_state:test_updates_of_each_sort",
    "name_scope": "backend.test_state:test_a_scope_is_of_what_is_built_inside",
    "ndim": "backend.test_state:test_a_placeholder_has_its_shape_and_the_marks_of_keras",
    "ones": "backend.test_state:test_zeros_ones_and_eye_are_variables",
    "placeholder": "backend.test_state:test_a_placeholder_has_its_shape_and_the_marks_of_keras",
    "random_binomial": "backend.test_random:test_binomial_draws_are_one_with_probability_p",
    "random_normal": "backend.test_random:test_normal_moments_and_quantiles",
    "random_normal_variable": "backend.test_random:test_random_variables_are_drawn_when_they_are_made",
    "random_uniform": "backend.test_random:test_uniform_moments_and_range",
    "random_uniform_variable": "backend.test_random:test_random_variables_are_drawn_when_they_are_made",
    "set_backend": "test_config:test_set_backend_changes_the_default_at_once_or_not_at_all",
    "set_epsilon": "backend.test_state:test_settings_hold_at_once",
    "set_floatx": "backend.test_state:test_settings_hold_at_once",
    "set_image_dim_ordering": "backend.test_state:test_settings_hold_at_once",
    "set_learning_phase": "backend.test_state:test_the_learning_phase_is_one_tensor_until_it_is_set",
    "set_legacy_weight_ordering": "backend.test_state:test_names_that_keras_sets_and_asks_for",
    "set_seed": "backend.test_random:test_without_a_seed_np_random_makes_a_program_repeatable",
    "set_session": "backend.test_state:test_an_engine_without_sessions_says_so",
    "set_value": "backend.test_state:test_values_are_set_and_got",
    "switch": "test_branch:test_only_the_side_that_is_taken_runs",
    "update": "backend.test_state:test_updates_of_each_sort",
    "update_add": "backend.test_state:test_updates_of_each_sort",
    "update_sub": "backend.test_state:test_updates_of_each_sort",
    "variable": "backend.test_state:test_a_variable_takes_numbers_lists_and_arrays",
    "zeros": "backend.test_state:test_zeros_ones_and_eye_are_variables",
}


def test_there_is_no_other_function() -> None:
    named = [text.strip().partition("(")[0] for text in [*SIGNATURES, *OWN]]
    assert len(set(named)) == len(named)
    assert set(K.__all__) == set(named)
    assert all(callable(getattr(K, name)) and getattr(K, name).__doc__ for name in K.__all__)


def test_every_function_has_a_row_or_a_test() -> None:
    rows = {row.name for row in KCASES}
    assert rows | set(TESTED_ELSEWHERE) == set(K.__all__)
    assert not rows & set(TESTED_ELSEWHERE)
    for place in TESTED_ELSEWHERE.values():
        module, _, test = place.partition(":")
        assert callable(getattr(importlib.import_module(f"tests.{module}"), test))
