"""A simulated rover, recorded sensors, and actors judged in closed loop."""

from tractor_core import old_names

# Until version 0.2.
MOVED = {
    "replay_node": ("tractor_sim.nodes.replay_node",),
    "sim_node": ("tractor_sim.nodes.sim_node",),
    "train": ("tractor_training.imitate",),
}
old_names.keep(__name__, MOVED)
