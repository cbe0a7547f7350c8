"""The commands of the README can be run as they are printed, one after the other."""

import argparse
import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tractor_inference import __main__ as inference

# What a command leaves in the folder it is run in; options that name what is written are below.
MAKES = {
    "make demo": ["demo_output"],
    "make build": ["install/setup.bash"],
    "./start_sac_rover.sh": ["calibration_data"],
    "ros2 launch": ["calibration_data"],
    "ros2 bag": [],
    "scp": [],
    "ros2 run tractor_calibration convert": ["models/remote_trained.rknn"],
}
WRITTEN = ("--out", "--output", "--html", "-o")
LEFT_TO_OTHERS = ("ros2 bag", "ros2 service", "ros2 topic", "scp", "source")


def commands(text):
    """Yield the words of each command of the shell blocks, without comments."""
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words:
                end = words.index("&&") if "&&" in words else len(words)
                if words[:end]:
                    yield words[:end]
                words = words[end + 1 :]


README = Path(__file__).resolve().parents[3] / "README.md"
COMMANDS = list(commands(README.read_text(encoding="utf-8")))


def written_by(words):
    """Return what a command makes, beside what git holds."""
    made = [words[i + 1] for i, word in enumerate(words[:-1]) if word in WRITTEN]
    if words[0] == "make":
        made += [path for target in words[1:] for path in MAKES.get(f"make {target}", [])]
    elif words[0] == "scp":
        made.append(words[-2].rpartition(":")[2])
    for length in (1, 2, 4):
        made += MAKES.get(" ".join(words[:length]), [])
    return made


def files_of(words):
    """Return what a command is given that looks like a file or folder of the checkout."""
    if words[0] == "scp":
        return []
    values = [word.rpartition(":=")[2].removeprefix("$PWD/") for word in words]
    taken = {words[i + 1] for i, word in enumerate(words[:-1]) if word in WRITTEN}
    return [
        value for value in values
        if value not in taken and not value.startswith(("-", "/", ".venv/", "std_srvs/"))
        and (Path(value).suffix in (".onnx", ".rknn", ".sh", ".yaml", ".bash")
             or value in ("calibration_data", "recorded_drive"))
    ]  # fmt: skip


def test_every_file_is_there_or_made_by_a_command_before(repository):
    listed = subprocess.run(
        ["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=True
    )
    there, missing = set(listed.stdout.split()), []
    for words in COMMANDS:
        missing += [
            (shlex.join(words), file)
            for file in files_of(words)
            if file.removeprefix("./") not in there
        ]
        there.update(written_by(words))
    assert COMMANDS and missing == []


def options_of(module, verb):
    """Return the options that a command takes, and whether it has the verb."""
    parsers = []
    real = argparse.ArgumentParser.parse_args

    def spy(self, *_):
        parsers.append(self)
        raise SystemExit

    argparse.ArgumentParser.parse_args = spy
    try:
        with pytest.raises(SystemExit):
            found = importlib.import_module(module)
            if not hasattr(found, "main"):
                found = importlib.import_module(f"{module}.__main__")
            found.main([])
    finally:
        argparse.ArgumentParser.parse_args = real
    help_text = parsers[0].format_help()
    assert not verb or verb in help_text
    return set(re.findall(r"--[\w-]+", help_text))


def module_of(words, repository):
    """Return (module, the words after it) of `ros2 run` and `python -m`, or None."""
    # Its verbs are in tractor_bringup.
    if words[2:3] == ["tractor_inference"] and words[3] in inference.VERBS:
        return f"tractor_bringup.{words[3]}", words[4:]
    if words[:2] == ["ros2", "run"]:
        setup = (repository / "src" / words[2] / "setup.py").read_text(encoding="utf-8")
        return re.search(rf'"{words[3]}=([\w.]+):main"', setup)[1], words[4:]
    if words[0] == ".venv/bin/python":
        assert words[1] == "-m"
        if (repository / "src" / words[2] / words[2] / "__main__.py").is_file():
            return f"{words[2]}.{words[3]}", words[4:]
        return words[2], words[3:]
    return None


@pytest.mark.parametrize("words", COMMANDS, ids=shlex.join)
def test_every_command_is_there_and_takes_what_it_is_given(repository, words):
    if words[0] == "make":
        known = re.search(r"^\.PHONY: (.*)$", (repository / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(known[1].split())
    elif found := module_of(words, repository):
        module, rest = found
        verb = rest[0] if module.endswith("models") else ""
        given = {word for word in rest if word.startswith("--")}
        assert given <= options_of(module, verb) | {"--help"}
    elif words[0] == "remote_training_server/start_sac_server.sh":
        done = subprocess.run([repository / words[0], "-h"], capture_output=True, text=True)
        assert done.returncode == 0 and "--from-experience" in done.stdout, done.stderr
    elif words[0].startswith("./"):
        done = subprocess.run([repository / words[0], "-h"], capture_output=True, text=True)
        assert done.returncode == 0
        of_launch = arguments_of(repository, "sac_rover.launch.py")
        assert {w.partition(":=")[0] for w in words[1:] if ":=" in w} <= of_launch
    elif words[:2] == ["ros2", "launch"]:
        given = {word.partition(":=")[0] for word in words[4:] if word != "--show-args"}
        assert given <= arguments_of(repository, words[3])
    else:
        assert " ".join(words[:2]).startswith(LEFT_TO_OTHERS)


def arguments_of(repository, launch_file):
    """Return the arguments of a launch file; without ROS those that its text names."""
    from tractor_bringup import launch_arguments

    text = (repository / "launch" / launch_file).read_text(encoding="utf-8")
    names = set(re.findall(r'Argument\(\s*"(\w+)"', text))
    shared = vars(launch_arguments).items()
    for name, value in shared:
        if isinstance(value, launch_arguments.Argument) and re.search(
            rf"^    {name},$", text, re.M
        ):
            names.add(value.name)
    if "*TOPICS" in text:
        names |= {topic.name for topic in launch_arguments.TOPICS}
    return names
