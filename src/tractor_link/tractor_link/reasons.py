"""What goes wrong between rover and server, in words; and which addresses are addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from urllib.parse import urlsplit

from tractor_core.errors import LinkError, TractorError
from tractor_core.text import printable_message

from .streams import EXPERIENCE

STREAM_FULL, STORAGE_FULL = 10077, 10023
SCHEMES = ("nats", "tls")
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")


def require_address(address: str) -> str:
    """Return an address of a NATS server as it is.

    Raises:
        LinkError: it is none; with the form that is expected.
    """
    try:
        parts = urlsplit(address)
        fits = (
            parts.scheme in SCHEMES
            and _HOST.fullmatch(parts.hostname or "") is not None
            and not parts.path.strip("/")
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        fits = False
    if not fits:
        raise LinkError(
            "expected an address such as nats://192.168.1.10:4222, found "
            f"{printable_message(address)!r}"
        )
    return address


def is_loopback(address: str) -> bool:
    """Return whether an address is of this machine only."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: 127.example.org may lead anywhere
        return host == "localhost"


def reason(error: BaseException, address: str, needed: str = f"stream {EXPERIENCE}") -> str:
    """Return why the server at an address cannot be used, with what to do.

    Args:
        error: of nats-py, of the system or of this suite.
        address: of the server.
        needed: what is looked for on the server.
    """
    import nats.errors
    from nats.js import errors

    at = f"NATS server at {printable_message(without_secrets(address))}"
    if isinstance(error, TractorError):
        return str(error)
    if isinstance(error, errors.NoStreamResponseError | errors.NotFoundError):
        return f"{at}: it has no {needed}; the training server makes it: start that"
    if isinstance(error, errors.APIError) and error.err_code in (STREAM_FULL, STORAGE_FULL):
        return (
            f"{at}: it is full, chunks wait on the rover; is the trainer running? "
            "More room: experience_max_gb, or its disk"
        )
    if isinstance(error, nats.errors.AuthorizationError):
        return f"{at}: it refuses these credentials"
    if isinstance(
        error, nats.errors.NoServersError | ConnectionError | nats.errors.UnexpectedEOF
    ) or "expecting INFO" in str(error):
        return f"{at}: none answers; is it running, and reachable from here?"
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        return f"{at}: no answer in time; it is asked again"
    text = str(error) or type(error).__name__
    return f"{at}: {printable_message(text)}"


def without_secrets(address: str) -> str:
    """Return an address as others may see it: without user and password."""
    parts = urlsplit(address)
    return address.replace(f"{parts.netloc.rpartition('@')[0]}@", "") if "@" in address else address
