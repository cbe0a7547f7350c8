"""cmd_guard in a middleware that does not let go: destroying the node blocks in C, GIL held.

Fast DDS was seen to spin there when processes that it shares memory with had been killed.
"""

import ctypes

from rclpy.node import Node

from tractor_inference.cmd_guard_node import main


def destroy_node(node):
    ctypes.PyDLL(None).sleep(600)


Node.destroy_node = destroy_node

if __name__ == "__main__":
    main()
