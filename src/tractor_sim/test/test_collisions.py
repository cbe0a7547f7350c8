"""The guard keeps the rover from what is seen; where it does not, the verb fails and says so."""

import json

import pytest
import yaml

from tractor_sim import collisions
from tractor_sim.collisions import Findings, Row, page, table, write
from tractor_sim.guarded.drive import Contact, Drive, Task
from tractor_sim.guarded.sight import MOVED


def drives(*contacts, guarded=True, seeds=(7,)):
    return tuple(
        Drive(Task(seed, 5.0, "", "none", None, guarded), 2.0, contacts, 3, 0.25, 0)
        for seed in seeds
    )


SEEN, UNSEEN = Contact(1.0, 0.5, -0.5, None), Contact(2.0, 0.1, 0.2, MOVED)


def findings(*contacts):
    row = Row("none", "random actor", drives(*contacts), drives(SEEN, UNSEEN, guarded=False))
    return Findings((row,), 5.0)


def test_contacts_are_counted_apart_with_the_guard_and_without():
    found = findings(UNSEEN, UNSEEN)
    cells = found.rows[0].cells()
    assert (cells["seen"], cells["unseen"]) == ("0", "2")
    assert (cells["seen, no guard"], cells["unseen, no guard"]) == ("1", "1")
    assert (cells["stops"], cells["stood"], cells["m a world"]) == ("3", "25%", "2.00")
    assert found.reasons() == [{"not seen": MOVED, "contacts": "2", "no guard": "1"}]
    assert list(found.seen()) == []


def test_what_the_guard_let_it_touch_is_named_with_its_world_and_time():
    (line,) = findings(SEEN).seen()
    assert "world 7, none, random actor" in line and "0.50, -0.50 m after 1.00 s" in line


def test_the_page_keeps_what_is_above_its_heading(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("# Title\nText.\n\n## Measured\nold\n")
    write(file, findings(UNSEEN))
    text = file.read_text()
    assert text.startswith("# Title\nText.\n\n## Measured\n1 drives of 5 s with the guard")
    assert "old" not in text and "| none | random actor | 1 | 2.00 | 3 |" in text
    write(tmp_path / "new.md", findings())
    assert (tmp_path / "new.md").read_text().startswith("## Measured")


def test_a_table_lines_up_in_a_terminal():
    lines = table([{"a": "long name", "n": "1"}, {"a": "b", "n": "100"}], False).splitlines()
    assert lines == ["a          n", "long name    1", "b          100"]
    assert table([], False) == "none"
    assert "none" in page(findings())


@pytest.mark.slow
def test_ten_worlds_under_every_fault_touch_nothing_that_is_seen(params_file, tmp_path, capsys):
    """The short form of `make collisions`."""
    file = tmp_path / "found.md"
    arguments = ["--worlds", "10", "--seconds", "6", "--params", str(params_file)]
    assert collisions.main([*arguments, "--json", "--out", str(file)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["fault"] for row in found["rows"]} == set(collisions.FAULTS)
    assert sum(int(row["seen"]) for row in found["rows"]) == 0
    # The same worlds without the guard: that nothing was touched is the guard's doing.
    assert sum(int(row["seen, no guard"]) for row in found["rows"]) > 0
    assert all(float(row["m a world"]) > 0.2 for row in found["rows"])
    assert "| somebody steps in |" in file.read_text()


@pytest.mark.slow
def test_a_guard_that_was_told_of_a_better_base_is_found_out(params_file, tmp_path, capsys):
    values = yaml.safe_load(params_file.read_text())
    values["/**/cmd_guard"]["ros__parameters"] |= {
        "linear_deceleration": 20.0, "angular_deceleration": 100.0, "reaction_s": 0.0,
        "obstacle_margin_m": 0.0, "rate_hz": 200.0,
    }  # fmt: skip
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(values))
    arguments = ["--worlds", "6", "--seconds", "10", "--faults", "none", "--params", str(file)]
    assert collisions.main(arguments) == collisions.TOUCHED
    assert "touched what a sensor can see" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--worlds", "0"], ["--seconds", "0"], ["--faults", "rain"], ["--out", "a.txt"],
     ["--first-seed", "-1"]],
)  # fmt: skip
def test_wrong_usage_is_refused(arguments):
    with pytest.raises(SystemExit) as ended:
        collisions.main(arguments)
    assert ended.value.code == 2


def test_a_model_that_is_missing_is_named(tmp_path, capsys):
    missing = tmp_path / "none.onnx"
    assert collisions.main(["--model", str(missing)]) == 1
    assert str(missing) in capsys.readouterr().err
