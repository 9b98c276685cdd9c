"""The settings: the file, the environment, the command, and what a wrong value says."""

import json
import os
import subprocess
import sys

import pytest

from kgraph import backend as K
from kgraph import command, settings_file
from kgraph.config import settings
from kgraph.errors import ArgumentError, ConfigError, EngineError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A settings folder of its own, and no engine named by the environment."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KGRAPH_BACKEND", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return tmp_path


def write(home, text):
    (home / "keras.json").write_text(text)


def test_without_a_file_the_defaults_hold(home):
    found = settings_file.load()
    assert (found.engine, found.floatx, found.epsilon, found.image_dim_ordering) == ("numpy", "float32", 1e-7, "th")
    assert found.sources == {}


def test_the_file_is_read_and_other_fields_are_passed_over(home):
    write(home, '{"floatx": "float64", "epsilon": 1e-3, "backend": "theano", "image_dim_ordering": "tf", "odd": [1]}')
    found = settings_file.load()
    assert (found.engine, found.floatx, found.epsilon, found.image_dim_ordering) == ("theano", "float64", 1e-3, "tf")
    assert found.sources["engine"] == str(home / "keras.json")


@pytest.mark.parametrize(("ordering", "meant"), [("channels_first", "th"), ("channels_last", "tf")])
def test_the_field_of_keras_2_is_understood(home, ordering, meant):
    write(home, json.dumps({"image_data_format": ordering}))
    assert settings_file.load().image_dim_ordering == meant


def test_the_environment_goes_before_the_file(home, monkeypatch):
    write(home, '{"backend": "theano"}')
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert settings_file.load().engine == "tensorflow"
    monkeypatch.setenv("KGRAPH_BACKEND", "jax")
    assert settings_file.load().engine == "jax"
    assert settings_file.load().sources["engine"] == "KGRAPH_BACKEND"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"floatx": "float8"}', "floatx is 'float8'; it has to be 'float16' or 'float32' or 'float64'"),
        ('{"floatx": ["float32"]}', "floatx is ['float32']; it has to be 'float16' or 'float32' or 'float64'"),
        ('{"epsilon": "small"}', "epsilon is 'small'; it has to be a number from 0 up to 1"),
        ('{"epsilon": true}', "epsilon is True; it has to be a number from 0 up to 1"),
        ('{"backend": 3}', "backend is 3; it has to be the name of an engine"),
        ('{"image_dim_ordering": "nchw"}', "image_dim_ordering is 'nchw'; it has to be 'th' or 'tf'"),
        ("[1]", "holds a list, not an object with fields"),
        ("{bad", "is no JSON"),
        ("", "is no JSON"),
        ("\x00\xff", "is no JSON"),
    ],
)
def test_a_wrong_file_is_named_with_field_and_what_is_allowed(home, text, message, capsys):
    write(home, text)
    with pytest.raises(ConfigError) as caught:
        settings_file.load()
    assert message in str(caught.value)
    assert str(home / "keras.json") in str(caught.value)
    assert command.main(["config"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"kgraph: {home / 'keras.json'}")


def test_the_command_writes_beside_what_is_there(home, capsys):
    write(home, '{"odd": 1, "floatx": "float16"}')
    assert command.main(["config", "backend=theano", "epsilon=1e-6", "--json"]) == 0
    assert json.loads((home / "keras.json").read_text()) == {
        "odd": 1,
        "floatx": "float16",
        "backend": "theano",
        "epsilon": 1e-6,
    }
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"] == {"backend": "theano", "floatx": "float16", "epsilon": 1e-6, "image_dim_ordering": "th"}
    assert os.listdir(home) == ["keras.json"]  # nothing half-written is left


@pytest.mark.parametrize("asked", ["floatx=float8", "nonsense=1", "floatx", "epsilon=small"])
def test_the_command_refuses_and_writes_nothing(home, asked, capsys):
    write(home, '{"floatx": "float16"}')
    assert command.main(["config", "backend=theano", asked]) == 2
    assert (home / "keras.json").read_text() == '{"floatx": "float16"}'
    assert capsys.readouterr().err.startswith("kgraph: ")


def test_a_wrong_value_in_the_file_can_be_mended_by_the_command(home):
    write(home, '{"floatx": "float8"}')
    assert command.main(["config", "floatx=float32"]) == 0
    assert settings_file.load().floatx == "float32"


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
        timeout=120,
    )


def test_a_named_engine_is_announced_on_standard_error(home):
    code = "from kgraph import backend as K; print(K.backend(), K._BACKEND)"
    found = run(code, KERAS_BACKEND="tensorflow")
    assert (found.stdout, found.stderr) == ("tensorflow tensorflow\n", "Using TensorFlow backend.\n")
    found = run(code)
    assert (found.stdout, found.stderr) == ("numpy numpy\n", "")


def test_an_unknown_engine_is_an_error_at_first_use_and_not_at_import(home):
    code = "from kgraph import backend as K; x = K.variable(1.) * 2; print('built'); K.eval(x)"
    found = run(code, KGRAPH_BACKEND="tensorfow")
    assert found.stdout == "built\n"
    assert found.returncode == 1
    assert "EngineError: there is no engine 'tensorfow'" in found.stderr
    assert "the engines are numpy" in found.stderr


def test_set_backend_changes_the_default_at_once_or_not_at_all(monkeypatch):
    monkeypatch.setattr(settings, "engine", "numpy")
    with pytest.raises(EngineError, match="there is no engine 'cntk'"):
        K.set_backend("cntk")
    assert K.backend() == "numpy"
    K.set_backend("numpy")
    assert K.backend() == K._BACKEND == "numpy"


@pytest.mark.parametrize(
    ("call", "value", "kept"),
    [
        (K.set_floatx, "float8", K.floatx),
        (K.set_image_dim_ordering, "nchw", K.image_dim_ordering),
        (K.set_learning_phase, 2, None),
    ],
)
def test_a_wrong_setting_changes_nothing(call, value, kept):
    before = kept() if kept else None
    with pytest.raises(ArgumentError, match=f"{call.__name__}: .*{value}"):
        call(value)
    assert (kept() if kept else None) == before


def test_settings_are_read_under_their_old_names(monkeypatch):
    monkeypatch.setattr(settings, "epsilon", 1e-5)
    assert K._EPSILON == K.epsilon() == 1e-5
    assert K.floatx() == K._FLOATX
    with pytest.raises(AttributeError, match="nonsense"):
        K.nonsense  # noqa: B018
