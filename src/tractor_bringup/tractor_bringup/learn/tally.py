"""What reached the learner, and which models drove, by what lies in the folders of a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tractor_core import experience
from tractor_core.experience import Description
from tractor_core.spool import SENT
from tractor_training.chunk_log import read
from tractor_training.learning import CHUNKS, MODELS, files_of


@dataclasses.dataclass(frozen=True)
class Tally:
    """Counts of a run.

    Attributes:
        steps: control steps that the learner has.
        lost: steps that a rover wrote and the learner does not have.
        rover_steps, rover_bytes: of the rover of ROS nodes; bytes are those of its files.
        names: of the versions that passed, in their order.
        driven: of these, those that the rover drove with, in INT8.
    """

    steps: int
    lost: int
    rover_steps: int
    rover_bytes: int
    names: tuple[str, ...]
    driven: tuple[str, ...]

    @property
    def drives_last(self) -> bool:
        """Whether the rover drove with the last one that passed."""
        return bool(self.driven) and self.driven[-1] == self.names[-1]

    @property
    def bytes_per_step(self) -> float:
        """On the link, of the rover of ROS nodes."""
        return self.rover_bytes / max(1, self.rover_steps)

    @classmethod
    def of(cls, output: Path, run: Path) -> Tally:
        """Count what is there now; rovers and learner may go on."""
        ros, rovers = (_chunks(output / name) for name in ("experience", "rovers"))
        described = map(experience.describe, read(run / CHUNKS))
        learnt = {chunk.id: chunk.steps for chunk in described}
        sent = [chunk for _, chunk in ros + rovers]
        by_digest = _converted(output / "models")
        drove = dict.fromkeys(by_digest.get(chunk.model, "") for _, chunk in ros)
        names = tuple(sorted(path.stem for path in (run / MODELS).glob("*.onnx")))
        return cls(
            sum(learnt.values()), sum(chunk.steps for chunk in sent if chunk.id not in learnt),
            sum(chunk.steps for _, chunk in ros), sum(size for size, _ in ros),
            names, tuple(name for name in drove if name in names),
        )  # fmt: skip


def _chunks(folder: Path) -> list[tuple[int, Description]]:
    """Return the chunks of a spool and their sizes; the link may move them meanwhile."""
    found: dict[str, tuple[int, Description]] = {}
    for path in files_of(folder):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = (folder / SENT / path.name).read_bytes()
        found[path.name] = len(data), experience.describe(data)
    return [*found.values()]


def _converted(models: Path) -> dict[str, str]:
    """Return {sha256 of a built model: name of the ONNX that it was built from}."""
    found = {}
    for path in models.glob("versions/*/*.json"):
        values = json.loads(path.read_text())
        found[values["model"]["sha256"]] = Path(values["onnx"]["file"]).stem
    return found
