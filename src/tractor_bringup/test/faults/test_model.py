"""What a model and the library that runs it can do wrong; `failing_actor` does it."""

import time

import pytest

from faults.report import chosen
from faults.rig import PERIOD_S, Fault, Measured, Rig
from tractor_inference.nodes.watchdog import EXIT_HUNG

pytestmark = [pytest.mark.ros, pytest.mark.slow]

KIND = "The model"
# A command is due every frame; the next one says zero.
FRAME_S = 1 / 30
# Of a process that is asked to end.
STOP_AT_SIGNAL_S = 0.5
# As failing_actor has it.
PERIOD = 40
# max_outages_a_minute of the parameter file.
OUTAGES = 5


def fails(how):
    return lambda rig: (rig.graph.folder / "fault").write_text(how)


def heal(rig):
    (rig.graph.folder / "fault").unlink(missing_ok=True)
    rig.start()


def warnings_raise(rig):
    fails("log")(rig)
    rig.sensors.muted.add("depth")


ONCE = {"heal": heal, "bound_s": FRAME_S + PERIOD_S, "says": "inference failed"}


def restarted(how):
    """Inject a failure that is there when the actor starts."""

    def inject(rig):
        fails(how)(rig)
        rig.restart("sac_actor")

    return inject


SELDOM = Fault(
    "an exception for every 40th frame",
    f"zero for that frame; after the {OUTAGES + 1}th within a minute until ~/reload_model",
    restarted("seldom"), bound_s=(OUTAGES + 1) * PERIOD * FRAME_S + 3.0,
    says=f"the model failed {OUTAGES + 1} times within 60 s", repeats=2,
)  # fmt: skip
FAULTS = [
    Fault("answers with NaN", "zero for each such frame; opened anew after three in a row",
          fails("nan"), **ONCE, short=True),
    Fault("answers of another shape", "the same", fails("shape"), **ONCE),
    Fault("answers beyond -1..1", "the same", fails("range"), **ONCE),
    Fault("an exception for each frame", "the same", fails("raise"), **ONCE),
    Fault("hangs", f"zero by the watchdog; after 2 s the process ends with {EXIT_HUNG}, and is "
          "started again",
          fails("hang"), heal=heal, watched_s=4.0, resume_s=None, ends="sac_actor"),
    Fault("every log line of a warning raises, and depth ends", "zero, named", warnings_raise,
          heal=heal, says="bev ", short=True),
    Fault("cannot be opened at the start", "zero, named; tried again with growing delays",
          restarted("open"), heal=heal, says="cannot be configured: the NPU does not answer",
          bound_s=STOP_AT_SIGNAL_S, watched_s=6.0, resume_s=None, repeats=2),
]  # fmt: skip


def failing_rig(graph, **actor):
    rig = Rig(graph, sac_actor=actor)
    rig.modules["sac_actor"] = "faults.failing_actor"
    return rig


@pytest.fixture(scope="module")
def rig(shared_ros_graph):
    rig = failing_rig(shared_ros_graph, max_outages_a_minute=1000)
    yield rig
    rig.end()


@pytest.mark.parametrize("fault", chosen(FAULTS), ids=lambda fault: fault.name)
def test_row(rig, report, fault):
    report.measure(KIND, fault, rig.suffer)


@pytest.mark.parametrize("fault", chosen([SELDOM]), ids=lambda fault: fault.name)
def test_seldom(rig, report, fault):
    from std_srvs.srv import Trigger

    def suffer(fault):
        """Count from the first frame of the new process to the last command that moves."""
        rig.ready()
        rig.settings["sac_actor"]["max_outages_a_minute"] = OUTAGES
        rig.inject(fault)
        rig.said.clear()
        at_s = time.monotonic()
        rig.wait(lambda: any(command.moves for command in rig.since(at_s)))
        at_s = next((c.at_s for c in rig.since(at_s) if c.moves), at_s)
        named = rig.wait(lambda: any(fault.says in text for _, text in rig.said), 30.0)
        moving = [command.at_s - at_s for command in rig.since(at_s) if command.moves]
        measured = Measured(stop_s=max(moving, default=0.0))
        named_s = time.monotonic()
        rig.listen(fault.watched_s)
        after = rig.since(named_s)
        measured.held = sum(not command.moves for command in after) / max(1, len(after))
        if not named:
            measured.wrong.append(f"did not say {fault.says!r}")
        heal(rig)
        rig.call(Trigger, "/sac_actor/reload_model")
        rig.resume(fault, measured)
        rig.settings["sac_actor"]["max_outages_a_minute"] = 1000
        return measured

    report.measure(KIND, fault, suffer)
