"""config/training.yaml: what a training server learns, to which end, and where it keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tractor_core import outside, parameters
from tractor_core.errors import ParameterError, raise_all
from tractor_core.parameters import MAX_FILE_BYTES, param
from tractor_core.paths import config_file
from tractor_link.reasons import without_secrets
from tractor_link.streams import StreamParameters

from .gate import GateParameters
from .reward import RewardParameters
from .sac_parameters import SacParameters
from .trainer import LearnerParameters

FILE, CURVES = "training.yaml", "tensorboard"
DEVICES = ("auto", "cpu", "cuda")


@dataclasses.dataclass(frozen=True)
class ServerParameters:
    """Where it listens, works and keeps what it has."""

    nats: str = param(
        "Address of a nats-server of your own; empty: one is started here, on loopback.", ""
    )
    nats_port: int = param("Of the one that is started here.", 4222, minimum=0, maximum=65_535)
    folder: str = param("All that is kept; relative to where it is started.", "server_data")
    device: str = param(
        "What torch computes on; ROCm is cuda, auto takes a GPU where there is one.",
        "auto", choices=DEVICES,
    )  # fmt: skip
    threads: int = param("Of torch, on a CPU.", 1, minimum=1, maximum=256)
    tensorboard_port: int = param(
        "TensorBoard listens here, on loopback; 0: none is started.", 6006, minimum=0,
        maximum=65_535,
    )  # fmt: skip
    curves: str = param("Folder of the curves; empty: beside the run.", "")
    chunks_max_gb: float = param(
        "Experience that is kept, GB; the oldest goes.", 20.0, minimum=0.01, maximum=100_000.0
    )
    exploration_scale: float = param(
        "Noise that is asked of rovers which explore: its standard deviation.",
        0.3, minimum=0.0, maximum=1.0,
    )  # fmt: skip
    checkpoint_s: float = param("How often it is saved, s.", 30.0, minimum=1.0, maximum=60.0)


@dataclasses.dataclass(frozen=True)
class StartParameters:
    """Where learning begins."""

    encoder: str = param(
        "Actor whose encoder is kept as it is, .onnx of the suite's network; relative to the "
        "checkout.",
        "models/sac_actor_reference.onnx",
    )  # fmt: skip
    keep_heads: bool = param("Its heads are where learning begins, too; false: random ones.", True)
    experience: str = param(
        "Folder of recorded chunks, which make half of each batch; empty: none.", ""
    )


@dataclasses.dataclass(frozen=True)
class Configuration:
    """The whole file."""

    server: ServerParameters
    start: StartParameters
    learner: LearnerParameters
    reward: RewardParameters
    sac: SacParameters
    gate: GateParameters
    streams: StreamParameters

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types, without the secrets of an address: others see it."""
        values = {name: parameters.canonical(getattr(self, name)) for name in SECTIONS}
        values["server"]["nats"] = without_secrets(self.server.nats)
        return values


SECTIONS: dict[str, Any] = {
    "server": ServerParameters,
    "start": StartParameters,
    "learner": LearnerParameters,
    "reward": RewardParameters,
    "sac": SacParameters,
    "gate": GateParameters,
    "streams": StreamParameters,
}


def load(path: Path | None = None) -> Configuration:
    """Read a configuration file, the suite's own by default; what it leaves out has its default.

    Raises:
        ParameterError: listing everything that is wrong in it.
    """
    path = path or config_file(FILE)
    try:
        document = outside.yaml_value(outside.read_text(path, MAX_FILE_BYTES))
    except OSError as error:
        raise ParameterError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ParameterError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(document, Mapping):
        raise ParameterError(f"{path}: expected sections, of {', '.join(SECTIONS)}")
    problems = [
        f"{name!s:.60}: unknown section, expected {', '.join(SECTIONS)}"
        for name in document
        if name not in SECTIONS
    ]
    found: dict[str, Any] = {}
    for name, cls in SECTIONS.items():
        values = document.get(name) or {}
        if not isinstance(values, Mapping):
            problems.append(f"{name}: expected names and values")
            continue
        try:
            found[name] = parameters.from_values(cls, {str(k): v for k, v in values.items()})
        except ParameterError as error:
            problems.append(f"{name}: {error}")
    raise_all(ParameterError, f"{path} is not usable:", problems)
    return Configuration(**found)


def changed(own: Configuration, **sections: Mapping[str, Any]) -> Configuration:
    """Return a configuration with other values in some sections, checked as those of the file.

    Raises:
        ParameterError: a value is out of its limits.
    """
    found = {
        name: parameters.from_values(
            SECTIONS[name], parameters.canonical(getattr(own, name)) | dict(values)
        )
        for name, values in sections.items()
        if values
    }
    return dataclasses.replace(own, **found)


def curves_folder(own: Configuration, run: Path) -> Path:
    """Return where the curves of a run go."""
    return Path(own.server.curves) if own.server.curves else run / CURVES


def encoder_file(own: Configuration) -> Path:
    """Return the actor whose encoder is kept: as it is named here, or of the suite.

    Raises:
        ParameterError: there is none.
    """
    named = Path(own.start.encoder)
    checkout = Path(__file__).resolve().parents[3] / named
    for path in (named, checkout):
        if path.is_file():
            return path
    raise ParameterError(
        f"start.encoder: expected an actor, found no {named.absolute()}"
        + ("" if named.is_absolute() else f" and no {checkout}")
    )
