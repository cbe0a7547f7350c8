"""rover_link: sends experience to a training server, and takes the models that it offers.

Driving does without it: what cannot be sent waits on the disk, and a model that was offered is
converted and checked as any other before sac_actor may take it. It tries again, for as long as it
runs, whatever server, network or disk do.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from tractor_core import contract as contracts
from tractor_core.background import Worker
from tractor_core.errors import ParameterError
from tractor_core.offered import OfferedModels
from tractor_core.paths import default_params_file
from tractor_core.spool import Spool
from tractor_inference.nodes.base import python_log
from tractor_inference.nodes.base.node import SuiteNode
from tractor_inference.nodes.base.run import run
from tractor_inference.nodes.base.usage import usage
from tractor_inference.recording.folders import recording_folder

from .. import __name__ as package
from ..downlink import Downlink
from ..install import Installer
from ..parameters import ALL, LinkParameters, rover_name
from ..reasons import is_loopback, without_secrets
from ..rover_link import RoverLink
from ..uplink import Uplink

# Less than a process may take to close; a conversion is interrupted, then killed.
STOP_LIMIT_S = 4.5


class RoverLinkNode(SuiteNode, Node):
    """Keeps the link in a thread of its own, and says in /diagnostics how it is."""

    # The rover drives on.
    problem_level = DiagnosticStatus.WARN

    def __init__(self, **seams: Any) -> None:
        """Begin.

        Args:
            seams: of Installer, for what stands in for the converter.

        Raises:
            ParameterError: a parameter cannot be used.
        """
        super().__init__("rover_link", automatically_declare_parameters_from_overrides=True)
        own = self.declare(LinkParameters)
        python_log.carry(self, package)
        params = self._params_file(own.params_file)
        name = rover_name(own.rover, self.get_namespace(), platform.node())
        models = Path(own.models_dir).absolute()
        spool = Spool(recording_folder(own.experience_dir, self.get_namespace()), 0)
        samples = recording_folder(own.calibration_dir, self.get_namespace())
        here, every = is_loopback(own.address), own.accept_models == ALL
        self._unasked = every and not here
        if self._unasked:
            self.get_logger().warning(
                f"accept_models is {ALL}: whoever offers a model at "
                f"{without_secrets(own.address)} decides what drives, once it agrees with its ONNX"
            )
        self._link = RoverLink(
            own.address, name, Uplink(own.address, name, spool),
            Downlink(
                own.address, name, self.contract.digest, OfferedModels(models), here or every
            ),
            Installer(
                models, samples, params, own.precision, own.accept_warnings, every, **seams
            ),
            lambda: len(spool.waiting()),
        )  # fmt: skip
        self._worker = Worker("link", self._link.run)
        self._worker.start()

    def _params_file(self, given: str) -> Path:
        """Return what models are converted with: it must have the contract that is driven by."""
        file = Path(given).absolute() if given else default_params_file()
        found = contracts.load(file).digest
        if found != self.contract.digest:
            raise ParameterError(
                f"params_file: expected contract {self.contract.digest}, that of this node, found "
                f"{found} in {file}"
            )
        return file

    def diagnose(self) -> tuple[str | None, dict[str, Any]]:
        """Return what is wrong with server, network, disk or a model, and counters."""
        return self._link.problem, self._link.describe()

    def concern(self) -> str | None:
        """Return that models are taken from whoever offers them."""
        return f"accept_models is {ALL}" if self._unasked else None

    def close(self) -> None:
        """End the link; what is under way comes again."""
        self._worker.stop(STOP_LIMIT_S)


def main() -> None:
    """Run the node."""
    about = usage("tractor_link", "rover_link", __doc__, rover_link=LinkParameters)
    sys.exit(run(RoverLinkNode, usage=about))


if __name__ == "__main__":
    main()
