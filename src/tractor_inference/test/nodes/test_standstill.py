import logging

from tractor_inference.nodes.standstill import Standstill


def levels(standstill, problem, start_s, end_s):
    said = [standstill.step(problem, float(now_s)) for now_s in range(start_s, end_s)]
    return [level for level, _ in filter(None, said)]


def test_a_start_is_no_error_until_it_takes_a_minute():
    standstill = Standstill(0.0)
    assert levels(standstill, "bev never received", 0, 60) == [logging.WARNING]
    assert levels(standstill, "bev never received", 60, 200) == [logging.ERROR]


def test_standing_still_while_driving_is_an_error_after_ten_seconds():
    standstill = Standstill(0.0)
    assert standstill.step(None, 1.0) is None
    assert levels(standstill, "scan 0.42 s old", 2, 11) == [logging.WARNING]
    assert levels(standstill, "scan 0.42 s old", 11, 60) == [logging.ERROR]


def test_each_standstill_is_said_anew_with_its_reason():
    standstill = Standstill(0.0)
    assert standstill.step("scan never received", 3.0) == (
        logging.WARNING, "standing still: scan never received",
    )  # fmt: skip
    assert standstill.step(None, 4.0) is None
    assert levels(standstill, "odom 0.31 s old", 5, 8) == [logging.WARNING]
