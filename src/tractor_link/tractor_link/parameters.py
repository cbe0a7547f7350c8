"""The section rover_link of the shared parameter file; readable without ROS."""

from __future__ import annotations

import dataclasses
import re

from tractor_core.errors import LinkError
from tractor_core.parameters import param

from .install import INT8, PRECISIONS
from .intake import TRAINER
from .lease import LEASE
from .reasons import require_address

LOOPBACK, ALL = "loopback", "all"
ACCEPT = (LOOPBACK, ALL)
# Keys of the bucket `status` that are no rover's: what the trainer says, and its lease.
RESERVED = (TRAINER, LEASE)
MAX_NAME = 64
ROVER_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")


@dataclasses.dataclass(frozen=True)
class LinkParameters:
    """The rover_link section of config/sac_rover.yaml."""

    address: str = param("Address of the training server.", "nats://127.0.0.1:4222")
    rover: str = param(
        "Name of the rover on the server: letters, digits, _ and -; empty: its namespace, else the "
        "name of the machine.", "",
    )  # fmt: skip
    experience_dir: str = param("Folder of the experience, as sac_actor's.", "experience")
    models_dir: str = param("Folder of the models; an offered one is put there.", "models")
    calibration_dir: str = param("Folder of the samples, as sac_actor's.", "calibration_data")
    params_file: str = param(
        "Parameter file that models are converted with; empty: config/sac_rover.yaml.", ""
    )
    precision: str = param(
        "What an offered model is converted to; int8 waits for samples.", INT8, choices=PRECISIONS
    )
    accept_warnings: bool = param(
        "Let a model drive that `convert` has warnings about, such as samples graded poor.", False
    )
    accept_models: str = param(
        "Whose models are converted without the operator's word: a server's on this machine, or "
        "all.", LOOPBACK, choices=ACCEPT,
    )  # fmt: skip

    def problems(self) -> list[str]:
        """Return what is wrong with address and name."""
        found = []
        try:
            require_address(self.address)
        except LinkError as error:
            found.append(f"address: {error}")
        if self.rover and (not ROVER_NAME.fullmatch(self.rover) or self.rover in RESERVED):
            found.append(
                f"rover: expected at most {MAX_NAME} letters, digits, _ and -, and not "
                f"{' or '.join(RESERVED)}, found {self.rover!r:.100}"
            )
        if not self.experience_dir:
            found.append("experience_dir: expected a folder, found none: there is nothing to send")
        return found


def rover_name(given: str, namespace: str, host: str) -> str:
    """Return what a rover is called on the server.

    Args:
        given: the parameter.
        namespace: of the node, "/" or "/fleet/rover1".
        host: the name of the machine.
    """
    if given:
        return given
    fits = re.sub(r"[^A-Za-z0-9_-]+", "_", namespace.strip("/") or host)[:MAX_NAME]
    return f"rover_{fits}"[:MAX_NAME] if fits in ("", "_", *RESERVED) else fits
