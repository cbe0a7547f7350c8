"""cmd_guard in a middleware that does not let go: STUCK_IN says in which call.

Seen of Fast DDS when processes that it shares memory with had been killed: destroying a node spun
in C with the GIL held, and publishing waited in C for a lock that nobody holds any more.
"""

import ctypes
import os

from rclpy.node import Node
from rclpy.publisher import Publisher

from tractor_inference.nodes.cmd_guard_node import main

publish = Publisher.publish
published = 0


def destroy_node(node):
    ctypes.PyDLL(None).sleep(600)


def publish_some(publisher, message):
    global published
    published += 1
    publish(publisher, message)
    if published > 30:
        print("stuck", flush=True)
        mutex = ctypes.create_string_buffer(64)  # PTHREAD_MUTEX_INITIALIZER is zeros
        while True:  # unlike sleep, no signal ends it
            ctypes.CDLL(None).pthread_mutex_lock(mutex)


if os.environ["STUCK_IN"] == "destroy_node":
    Node.destroy_node = destroy_node
else:
    Publisher.publish = publish_some

if __name__ == "__main__":
    main()
