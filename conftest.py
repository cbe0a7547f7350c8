"""Shared fixtures: where the recordings are, and a ROS domain of the run's own."""

import os
import signal
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent

# Modules that tests share, nodes that fail on purpose among them.
HELPERS = (
    "tractor_core/test",
    "tractor_inference/test",
    "tractor_inference/test/nodes",
    "tractor_bringup/test",
    "tractor_link/test",
    "tractor_link/test/nodes",
)

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"
os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config" / "fastdds.xml")
os.environ["PYTHONPATH"] = os.pathsep.join(
    [
        *map(str, sorted((ROOT / "src").glob("tractor_*"))),
        *(str(ROOT / "src" / name) for name in HELPERS),
        os.environ.get("PYTHONPATH", ""),
    ]
)


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def params_file() -> Path:
    return ROOT / "config" / "sac_rover.yaml"


@pytest.fixture(scope="session")
def contract(params_file: Path):
    from tractor_core import contract as contracts

    return contracts.load(params_file)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(os.environ.get("TRACTOR_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"recordings are not at {folder}; set TRACTOR_SHARED_DATA to their folder")
    return folder


@pytest.fixture
def signal_handlers_stay():
    """Put back what a command that runs in this process makes of signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def actor_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAC actor with random weights of a fixed seed."""
    import actor_factory
    import onnx

    path = tmp_path_factory.mktemp("actor") / "actor.onnx"
    onnx.save(actor_factory.make_actor(), path)
    return path


class RosGraph:
    """A test's own ROS node beside the suite's processes, all in the run's domain."""

    def __init__(self, params: Path, folder: Path) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        # Where nodes keep their logs, and a guard what holds the rover.
        os.environ["ROS_HOME"] = str(folder / "ros")
        rclpy.init()
        self.params, self.folder = params, folder
        self.node = rclpy.create_node("test_harness")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.processes: list = []

    def start(
        self, module: str, node: str = "", arguments: tuple[str, ...] = (), **parameters: object
    ):
        """Start a node by module name; parameters override those of the shared file."""
        from tractor_bringup.process import Process

        stem = module.rpartition(".")[2]
        process = Process.of_node(
            node or stem.removesuffix("_node"), module, self.params, self.folder / f"{stem}.log",
            arguments, self.folder, **parameters,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def collect(self, kind: type, topic: str, qos: object = 10) -> list:
        """Subscribe and return the list that received messages are appended to."""
        received: list = []
        self.node.create_subscription(kind, topic, received.append, qos)
        return received

    def until(self, condition, timeout_s: float = 20.0, every=None):
        """Spin until the condition holds and return its value; `every` is called between spins."""
        end = time.monotonic() + timeout_s
        while not (value := condition()):
            if time.monotonic() > end:
                logs = "\n".join(f"--- {p.log.name}\n{p.output()}" for p in self.processes)
                raise AssertionError(f"not reached within {timeout_s} s\n{logs}")
            if every is not None:
                every()
            self.executor.spin_once(timeout_sec=0.01)
        return value

    def call(self, kind: type, name: str, request=None, timeout_s: float = 20.0):
        """Call a service and return its response."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, timeout_s)
        future = client.call_async(request or kind.Request())
        self.until(future.done, timeout_s)
        return future.result()

    def close(self) -> None:
        """End what was started."""
        import rclpy

        from tractor_bringup.process import stop_all

        killed = stop_all(self.processes)
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()
        assert not killed, "\n".join(process.tail() for process in killed)


@pytest.fixture
def ros_graph(params_file, tmp_path):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    graph = RosGraph(params_file, tmp_path)
    yield graph
    graph.close()


@pytest.fixture(scope="module")
def shared_ros_graph(params_file, tmp_path_factory):
    """As `ros_graph`, for processes that the tests of a module share."""
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    graph = RosGraph(params_file, tmp_path_factory.mktemp("shared"))
    yield graph
    graph.close()
