"""Rivals are told from successors, by what is heard and by what the graph lists."""

from hypothesis import given
from hypothesis import strategies as st

from tractor_core import contract
from tractor_core.kinematics import STOP, Velocity
from tractor_core.paths import default_params_file
from tractor_core.robot import load
from tractor_inference.guard.guard import Guard, GuardParameters
from tractor_inference.guard.senders import GHOST_S, SILENT_S, UNKNOWN, Listed, Senders

PERIOD_S = 0.05


def hear(senders, numbers, start_s=0.0, period_s=PERIOD_S):
    """Hear messages; returns the greatest count of publishers, and the time after the last."""
    now_s, most = start_s, 0
    for number in numbers:
        senders.heard(number, now_s)
        most = max(most, senders.at_once(now_s))
        now_s += period_s
    return most, now_s


@given(st.integers(1, 10**9), st.lists(st.integers(1, 50), max_size=60))
def test_one_publisher_is_one_whatever_is_lost(first, steps):
    numbers = [first]
    for step in steps:
        numbers.append(numbers[-1] + step)
    assert hear(Senders(), numbers)[0] == 1


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 3), st.integers(1, 3))
def test_two_publishers_are_two_whatever_their_numbers_and_rates(first, second, a, b):
    numbers = []
    for _ in range(8):
        numbers += [*range(first, first + a), *range(second, second + b)]
        first, second = first + a, second + b
    # Where one's numbers go on where the other's end, the two look like one for a while.
    assert hear(Senders(), numbers)[0] == 2


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_successor_is_no_rival_and_a_rival_that_went_is_forgotten(before, after):
    senders = Senders()
    most, now_s = hear(senders, range(1, before + 1))
    assert most == 1
    most, now_s = hear(senders, range(1, after + 1), now_s + 0.2)
    assert most == 1
    hear(senders, [number for n in range(1000, 1010) for number in (n, n)], now_s)
    assert senders.at_once(now_s + 1.0) == 2
    assert senders.at_once(now_s + 1.0 + SILENT_S) == 0


def test_numbers_that_the_middleware_does_not_give_say_nothing():
    assert hear(Senders(), [None] * 10)[0] == 0


def test_the_guard_stops_while_two_send_and_passes_again_when_one_is_left():
    file = default_params_file()
    own = GuardParameters(obstacle_stop=False)
    guard = Guard(own, load(file), contract.load(file), lambda now_s: None)
    forward, now_s = Velocity(0.1, 0.0), 0.0
    for number in range(1, 10):
        for sender in (number, 500 + number):
            guard.take_actor(forward, now_s, sender)
            passed = guard.decide(now_s)
            now_s += PERIOD_S
    assert passed == STOP
    assert guard.reason == "2 publishers send commands of the actor at once"
    for number in range(510, 560):
        guard.take_actor(forward, now_s, number)
        passed = guard.decide(now_s)
        now_s += PERIOD_S
    assert passed == forward and guard.reason is None


def looked(*endpoints, times=(0.0,)):
    listed = Listed()
    for now_s in times:
        listed.look([e[:2] for e in endpoints if e[2] <= now_s < e[3]], now_s)
    return listed


ALWAYS = float("inf")
SECONDS = [float(second) for second in range(40)]


def test_nodes_of_two_names_are_rivals_at_once():
    listed = looked(("/sac_actor", b"a", 0, ALWAYS), ("/teleop", b"b", 0, ALWAYS))
    assert listed.rivals(0.0) and str(listed) == "/sac_actor, /teleop"


def test_a_name_that_is_not_known_yet_is_no_other_one_that_never_is_known_is():
    unknown = (("/sac_actor", b"a", 0, ALWAYS), (UNKNOWN, b"b", 1, ALWAYS))
    assert [looked(*unknown, times=SECONDS[:n]).rivals(n - 1.0) for n in (2, 3, 6)] == [
        False, False, True,
    ]  # fmt: skip
    listed = looked(("/sac_actor", b"a", 0, ALWAYS), ("/sac_actor", b"b", 1, ALWAYS), times=[0, 1])
    listed.look([("/sac_actor", b"a"), (UNKNOWN, b"b")], 9.0)  # the killed one, on its way out
    assert not listed.rivals(9.0) and str(listed) == "/sac_actor 2 times"


def test_of_one_name_a_killed_one_is_no_rival_and_two_that_stay_are():
    ghost = (("/sac_actor", b"a", 0, 30), ("/sac_actor", b"b", 12, ALWAYS))
    for end in range(1, 40):
        assert not looked(*ghost, times=SECONDS[:end]).rivals(end - 1.0)
    both = (("/sac_actor", b"a", 0, ALWAYS), ("/sac_actor", b"b", 3, ALWAYS))
    listed = looked(*both, times=SECONDS)
    assert listed.rivals(3.0 + GHOST_S + 1.0) and str(listed) == "/sac_actor 2 times"


def test_who_is_heard_although_another_has_come_is_alive():
    both = (("/sac_actor", b"a", 0, ALWAYS), ("/sac_actor", b"b", 10, ALWAYS))

    def rivals(numbers, start_s):
        senders = Senders()
        hear(senders, range(1, 180), 0.0)  # until 9.0 s
        _, now_s = hear(senders, numbers, start_s)
        times = [time for time in SECONDS if time < now_s]
        return looked(*both, times=times).rivals(now_s, senders)

    assert rivals(range(180, 280), 9.0)
    # The successor of one that was killed, first heard with a number below its or above.
    assert not rivals(range(1, 100), 10.1) and not rivals(range(200, 300), 10.1)
