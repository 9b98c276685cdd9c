"""The K functions: ``from kgraph import backend as K``. A file per family; none names an engine."""

from __future__ import annotations

import sys as _sys
from typing import Any

from kgraph.backend.control import function, gradients, in_test_phase, in_train_phase, switch
from kgraph.backend.conv import atrous_conv2d, conv1d, conv2d, conv3d, deconv2d, separable_conv2d
from kgraph.backend.ctc import ctc_batch_cost, ctc_decode, ctc_label_dense_to_sparse
from kgraph.backend.image import (
    asymmetric_spatial_2d_padding,
    asymmetric_temporal_padding,
    bias_add,
    resize_images,
    resize_volumes,
    spatial_2d_padding,
    spatial_3d_padding,
    temporal_padding,
)  # fmt: skip
from kgraph.backend.linalg import batch_dot, dot, l2_normalize
from kgraph.backend.math import (
    abs,
    cos,
    equal,
    exp,
    greater,
    greater_equal,
    lesser,
    lesser_equal,
    log,
    maximum,
    minimum,
    not_equal,
    pow,
    round,
    sign,
    sin,
    sqrt,
    square,
)  # fmt: skip
from kgraph.backend.nn import (
    binary_crossentropy,
    categorical_crossentropy,
    clip,
    dropout,
    elu,
    hard_sigmoid,
    relu,
    sigmoid,
    softmax,
    softplus,
    softsign,
    sparse_categorical_crossentropy,
    tanh,
)  # fmt: skip
from kgraph.backend.normalization import batch_normalization, normalize_batch_in_training
from kgraph.backend.pool import pool2d, pool3d
from kgraph.backend.random import (
    random_binomial,
    random_normal,
    random_normal_variable,
    random_uniform,
    random_uniform_variable,
    set_seed,
)  # fmt: skip
from kgraph.backend.reduce import all, any, argmax, argmin, cumprod, cumsum, logsumexp, max, mean, min, prod, std, sum, var
from kgraph.backend.rnn import foldl, foldr, map_fn, rnn
from kgraph.backend.shape import (
    arange,
    batch_flatten,
    cast,
    concatenate,
    dtype,
    expand_dims,
    flatten,
    gather,
    identity,
    in_top_k,
    int_shape,
    is_sparse,
    ndim,
    one_hot,
    ones_like,
    pattern_broadcast,
    permute_dimensions,
    print_tensor,
    repeat,
    repeat_elements,
    reshape,
    reverse,
    shape,
    squeeze,
    stack,
    stop_gradient,
    tile,
    to_dense,
    transpose,
    zeros_like,
)  # fmt: skip
from kgraph.backend.state import (
    backend,
    cast_to_floatx,
    clear_session,
    epsilon,
    floatx,
    get_session,
    get_uid,
    image_dim_ordering,
    is_keras_tensor,
    learning_phase,
    legacy_weight_ordering,
    manual_variable_initialization,
    name_scope,
    set_backend,
    set_epsilon,
    set_floatx,
    set_image_dim_ordering,
    set_learning_phase,
    set_legacy_weight_ordering,
    set_session,
)  # fmt: skip
from kgraph.backend.variables import (
    batch_get_value,
    batch_set_value,
    count_params,
    eval,
    eye,
    get_value,
    get_variable_shape,
    moving_average_update,
    ones,
    placeholder,
    set_value,
    update,
    update_add,
    update_sub,
    variable,
    zeros,
)  # fmt: skip
from kgraph.config import settings as _settings

__all__ = [
    "abs", "all", "any", "arange", "argmax", "argmin", "asymmetric_spatial_2d_padding", "asymmetric_temporal_padding",
    "atrous_conv2d", "backend", "batch_dot", "batch_flatten", "batch_get_value", "batch_normalization", "batch_set_value",
    "bias_add", "binary_crossentropy", "cast", "cast_to_floatx", "categorical_crossentropy", "clear_session", "clip",
    "concatenate", "conv1d", "conv2d", "conv3d", "cos", "count_params", "ctc_batch_cost", "ctc_decode",
    "ctc_label_dense_to_sparse", "cumprod", "cumsum", "deconv2d", "dot", "dropout", "dtype", "elu", "epsilon", "equal", "eval",
    "exp", "expand_dims", "eye", "flatten", "floatx", "foldl", "foldr", "function", "gather", "get_session", "get_uid",
    "get_value", "get_variable_shape", "gradients", "greater", "greater_equal", "hard_sigmoid", "identity",
    "image_dim_ordering", "in_test_phase", "in_top_k", "in_train_phase", "int_shape", "is_keras_tensor", "is_sparse",
    "l2_normalize", "learning_phase", "legacy_weight_ordering", "lesser", "lesser_equal", "log", "logsumexp",
    "manual_variable_initialization", "map_fn", "max", "maximum", "mean", "min", "minimum", "moving_average_update",
    "name_scope", "ndim", "normalize_batch_in_training", "not_equal", "one_hot", "ones", "ones_like", "pattern_broadcast",
    "permute_dimensions", "placeholder", "pool2d", "pool3d", "pow", "print_tensor", "prod", "random_binomial", "random_normal",
    "random_normal_variable", "random_uniform", "random_uniform_variable", "relu", "repeat", "repeat_elements", "reshape",
    "resize_images", "resize_volumes", "reverse", "rnn", "round", "separable_conv2d", "set_backend", "set_epsilon",
    "set_floatx", "set_image_dim_ordering", "set_learning_phase", "set_legacy_weight_ordering", "set_seed", "set_session",
    "set_value", "shape", "sigmoid", "sign", "sin", "softmax", "softplus", "softsign", "sparse_categorical_crossentropy",
    "spatial_2d_padding", "spatial_3d_padding", "sqrt", "square", "squeeze", "stack", "std", "stop_gradient", "sum", "switch",
    "tanh", "temporal_padding", "tile", "to_dense", "transpose", "update", "update_add", "update_sub", "var", "variable",
    "zeros", "zeros_like",
]  # fmt: skip

#: Names of Keras 1.x that are read, and follow the settings.
_FOLLOWING = {"_BACKEND": "engine", "_EPSILON": "epsilon", "_FLOATX": "floatx"}


if "engine" in _settings.sources:
    # Keras said so whenever it was imported. Where nothing names an engine, there is nothing to say.
    _shown = {"numpy": "NumPy", "tensorflow": "TensorFlow", "theano": "Theano", "pytensor": "PyTensor", "jax": "JAX"}
    print(f"Using {_shown.get(_settings.engine, _settings.engine)} backend.", file=_sys.stderr)


def __getattr__(name: str) -> Any:
    if name in _FOLLOWING:
        return getattr(_settings, _FOLLOWING[name])
    raise AttributeError(f"the backend has no {name!r}")
