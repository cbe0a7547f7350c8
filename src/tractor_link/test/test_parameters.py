"""What the node rover_link is told, and what a rover is called on the server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_core import parameters
from tractor_core.errors import ParameterError
from tractor_link.parameters import MAX_NAME, LinkParameters, rover_name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("address", "192.168.1.2:4222", "expected an address such as nats://"),
        ("rover", "rover 1", "expected at most 64 letters"),
        ("rover", "a.b", "expected at most 64 letters"),
        ("rover", "trainer", "not trainer or learner"),
        ("rover", "learner", "not trainer or learner"),
        ("rover", "r" * 65, "expected at most 64 letters"),
        ("precision", "int4", "expected one of"),
        ("accept_models", "none", "expected one of"),
        ("experience_dir", "", "nothing to send"),
    ],
)
def test_what_cannot_be_is_refused(name, value, message):
    with pytest.raises(ParameterError, match=message):
        parameters.from_values(LinkParameters, {name: value})


@pytest.mark.parametrize(
    ("given_name", "namespace", "host", "name"),
    [
        ("mine", "/rover1", "board", "mine"),
        ("", "/rover1", "board", "rover1"),
        ("", "/fleet/rover1", "board", "fleet_rover1"),
        ("", "/", "rock-5b.local", "rock-5b_local"),
        ("", "/", "", "rover_"),
        ("", "/trainer", "board", "rover_trainer"),
    ],
)
def test_a_rover_is_called_by_its_namespace_or_its_machine(given_name, namespace, host, name):
    assert rover_name(given_name, namespace, host) == name


@given(st.text(max_size=100), st.text(max_size=100))
def test_a_name_always_fits(namespace, host):
    name = rover_name("", namespace, host)
    assert parameters.from_values(LinkParameters, {"rover": name}).rover == name
    assert len(name) <= MAX_NAME
