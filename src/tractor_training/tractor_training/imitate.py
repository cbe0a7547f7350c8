"""Make the reference actor: imitation of the expert in the simulator, then DAgger.

Trains, exports, judges in closed loop beside the expert, and writes the model's card beside it.

Exit codes:
  0  made and good enough
  1  could not be made
  2  wrong usage
  3  made, but it does not drive well enough: the file at --out stays as it was
  130  interrupted
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path

from tractor_core import cli as commands
from tractor_core.errors import TractorError
from tractor_core.files import replace_file
from tractor_core.system_error import explain
from tractor_core.text import printable, printable_message
from tractor_sim.rollout import FIRST_UNSEEN_SEED, judge, summary
from tractor_sim.senses import Setup

from .card import REQUIRED_DISTANCE_SHARE, REQUIRED_FREE_SHARE, card, good_enough
from .imitation import SEEDS_A_RUN, train

log = logging.getLogger(__name__)


@commands.printing
def main(argv: list[str] | None = None) -> int:
    """Make, judge and describe the reference actor.

    Exit status: 0 made and good enough; 1 could not be made; 2 wrong usage; 3 made, but it does not
    drive well enough: the file at `--out` stays as it was; 130 interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m tractor_training imitate", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="0 to 99; draws worlds and weights")
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--params", help="shared parameter file")
    parser.add_argument("--processes", type=int, default=2, help="processes and threads to use")
    parser.add_argument("--worlds", type=int, default=40, help="unseen worlds to judge it in")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.seed < FIRST_UNSEEN_SEED // SEEDS_A_RUN:
        parser.error(f"--seed: expected 0 to 99, found {arguments.seed}")
    if min(arguments.worlds, arguments.processes) < 1:
        parser.error("--worlds and --processes: expected more than 0")
    if arguments.out.suffix != ".onnx":
        parser.error(f"--out: expected a name that ends in .onnx, found {arguments.out}")
    if not arguments.out.absolute().parent.is_dir():
        parser.error(f"--out: expected a file in a folder that exists, found {arguments.out}")
    commands.set_up_log("%(asctime)s %(message)s")
    out: Path = arguments.out
    candidate = out.with_name(f"{out.stem}.candidate.onnx")
    try:
        params_file = str(commands.params_file(arguments.params))
        started_s = time.monotonic()
        frames = train(candidate, params_file, arguments.seed, arguments.processes)
        made_s = time.monotonic() - started_s
        processor_s = sum(os.times()[:4])
        log.info("made in %.0f s; judging", made_s)
        expert, actor = (
            judge(model, params_file, arguments.worlds, processes=arguments.processes)
            for model in (None, str(candidate))
        )
    except (TractorError, OSError, ImportError) as error:
        text = explain(error, out.parent) if isinstance(error, OSError) else error
        print(printable_message(text), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return commands.INTERRUPTED
    print(f"actor: {summary(actor)}\nexpert: {summary(expert)}")
    facts = {
        "seed": str(arguments.seed),
        "frames": str(frames),
        "time to make, without judging": f"{made_s / 60:.1f} min, {arguments.processes} processes",
        "processor time of that": f"{processor_s / 60:.1f} min",
        "size": f"{candidate.stat().st_size} bytes",
        "contract": Setup.load(params_file).contract.digest,
    }
    command = f"python -m tractor_training imitate --seed {arguments.seed} --out {out}"
    text = card(out, command, facts, actor, expert)
    place = candidate if not good_enough(actor, expert) else out
    try:
        replace_file(place.with_suffix(".md"), text)
        if place == out:
            candidate.replace(out)
    except OSError as error:
        reason = printable_message(explain(error, out.parent))
        print(f"made, and it stays at {printable(candidate)}: {reason}", file=sys.stderr)
        return 1
    if place == candidate:
        print(
            f"not good enough: expected {REQUIRED_FREE_SHARE:.1%} of the runs without a collision "
            f"and {REQUIRED_DISTANCE_SHARE:.0%} of the expert's distance; it stays at "
            f"{printable(candidate)}, with its card beside it",
            file=sys.stderr,
        )
        return 3
    print(f"wrote {printable(out)} and {printable(out.with_suffix('.md'))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
