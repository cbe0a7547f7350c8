"""The actor node without root's right to write everywhere, as on a rover where it is not root."""

import ctypes
import os
import sys

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2

if __name__ == "__main__":
    # Who is not root may not drop them, and has neither.
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    node = "tractor_inference.nodes.sac_actor_node"
    os.execv(sys.executable, [sys.executable, "-m", node, *sys.argv[1:]])
