"""Shared fixtures of these tests: a server, and a rover's folders."""

import asyncio

import pytest
from servers import prepare

from tractor_core.spool import Spool
from tractor_link.broker import Broker


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path / "nats", port=0) as started:
        asyncio.run(prepare(started.address))
        yield started


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "experience", 10**9)


@pytest.fixture
def models(tmp_path):
    """A models folder."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder
