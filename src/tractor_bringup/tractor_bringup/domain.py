"""A ROS domain that a command has to itself."""

from __future__ import annotations

import os
import random
import time

from tractor_core import paths

from .processes import StepError

# The ROS domains whose ports Linux keeps free, and the last one that has ports at all.
DOMAINS, LAST_DOMAIN = range(1, 102), 232
DOMAIN_DRAWS = 5
# Nodes of one machine find each other within a fraction of it.
LISTEN_S = 1.0


def others_in(domain: int) -> list[str]:
    """Return the nodes and topics that others have in a ROS domain, as heard within LISTEN_S."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    own = f"demo_{os.getpid()}"
    node = rclpy.create_node(own, context=context, enable_rosout=False)
    try:
        found: set[str] = set()
        end_s = time.monotonic() + LISTEN_S
        while not found and time.monotonic() < end_s:
            time.sleep(0.05)
            # Hidden nodes, such as the one of the ros2 command, only listen.
            names = [n for n in node.get_node_names() if n != own and not n.startswith("_")]
            topics = {name for name, _ in node.get_topic_names_and_types()}
            found = {*names, *topics - {"/rosout", "/parameter_events"}}
        return sorted(found)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def set_ros_environment() -> None:
    """Set loopback only, the transport profile, and a ROS domain in which nothing else runs.

    Raises:
        StepError: something runs in the domain of ROS_DOMAIN_ID, or in all that were drawn.
    """
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(paths.config_file("fastdds.xml")))
    if asked := os.environ.get("ROS_DOMAIN_ID"):
        if not asked.isdecimal() or int(asked) > LAST_DOMAIN:
            raise StepError(f"ROS_DOMAIN_ID: expected 0..{LAST_DOMAIN}, found {asked!r}")
        if found := others_in(int(asked)):
            raise StepError(
                f"ROS_DOMAIN_ID={asked}: expected a domain in which nothing else runs, found "
                f"{', '.join(found[:5])}; set another, or unset it and a free one is drawn"
            )
    else:
        drawn = random.SystemRandom().sample(DOMAINS, DOMAIN_DRAWS)
        free = next((domain for domain in drawn if not others_in(domain)), None)
        if free is None:
            raise StepError(
                f"expected a ROS domain in which nothing else runs, found none of {drawn}; end "
                "what runs ROS on this machine, or name a free one by ROS_DOMAIN_ID"
            )
        os.environ["ROS_DOMAIN_ID"] = str(free)
    print(f"  ROS domain {os.environ['ROS_DOMAIN_ID']}, this machine only", flush=True)
