"""Let DDS participants come and go, ten at a time, until SIGINT; says how many there were."""

import signal
import sys

import rclpy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import LaserScan

AT_ONCE = 10

if __name__ == "__main__":
    ending: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: ending.append(number))
    count = 0
    while not ending:
        contexts = [rclpy.Context() for _ in range(AT_ONCE)]
        nodes = []
        for number, context in enumerate(contexts):
            rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
            nodes.append(rclpy.create_node(f"guest_{number}", context=context))
            nodes[-1].create_subscription(LaserScan, "scan", lambda message: None, 1)
        for node, context in zip(nodes, contexts):
            node.destroy_node()
            rclpy.shutdown(context=context)
        count += AT_ONCE
        print(count, flush=True)
    sys.exit(0)
