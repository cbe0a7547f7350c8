"""config/training.yaml says what holds by default, and every mistake in one like it is named."""

import pytest

from tractor_core import outside, parameters
from tractor_core.errors import ParameterError
from tractor_training import config


def test_the_shipped_file_has_every_value_and_only_defaults(repository):
    path = repository / "config" / "training.yaml"
    document = outside.yaml_value(path.read_text())
    for name, cls in config.SECTIONS.items():
        assert set(document[name]) == set(parameters.fields_of(cls)), name
        assert getattr(config.load(path), name) == cls(), name


def test_what_is_left_out_has_its_default(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("gate: {worlds: 3}\n")
    own = config.load(path)
    assert own.gate.worlds == 3 and own.sac == config.load().sac


def test_every_mistake_is_named_at_once(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("gates: {}\nsac: {gamma: 2.0, gama: 1}\nserver: {device: tpu}\ngate: 3\n")
    with pytest.raises(ParameterError) as found:
        config.load(path)
    for part in ("gates: unknown section", "gamma", "gama: unknown", "tpu", "gate: expected names"):
        assert part in str(found.value)


@pytest.mark.parametrize("text", ["- 1", "a: [", "\x00", ""])
def test_a_file_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=r"own\.yaml"):
        config.load(path)


def test_a_value_of_the_command_line_is_checked_as_the_files():
    assert config.changed(config.load(), sac={"batch_size": 64}).sac.batch_size == 64
    with pytest.raises(ParameterError, match="batch"):
        config.changed(config.load(), sac={"batch_size": 0})


def test_an_encoder_that_is_not_there_is_named_with_both_places():
    own = config.changed(config.load(), start={"encoder": "models/other.onnx"})
    with pytest.raises(ParameterError, match=r"models/other.onnx and no .*models/other.onnx"):
        config.encoder_file(own)
