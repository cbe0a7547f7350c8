"""Curves of learning for TensorBoard, where that is installed."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger(__name__)


class Curves:
    """Writes figures to a folder; without TensorBoard it says so once, and writes none."""

    def __init__(self, folder: Path) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            log.warning(
                "no curves are written: TensorBoard is not installed (%s); "
                "pip install -r requirements/training.txt",
                error,
            )
            return
        self._writer = SummaryWriter(str(folder))

    def add(self, figures: Mapping[str, float], steps: int) -> None:
        """Add figures by their names, at so many control steps."""
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, steps)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


def mean_of(said: Collection[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each name over those that have it."""
    names = {name for one in said for name in one}
    return {name: float(np.mean([o[name] for o in said if name in o])) for name in sorted(names)}
