"""RKNNLite as the sources of rknn-toolkit-lite2 2.5.0 say it behaves; its NPU is onnxruntime.

An .rknn of this board holds the bytes of an ONNX file. Tests set the attributes of `board`.
"""

from __future__ import annotations

import functools
import os
import types
from collections import OrderedDict

import numpy as np

board = types.SimpleNamespace(
    load_code=0,
    init_code=0,
    core_mask=None,
    platforms=("RK3588",),
    outputs=None,
    released=0,
    raising=(),
)


def may_raise(method):
    """Raise instead when the method's name is in `board.raising`."""

    @functools.wraps(method)
    def call(*args, **kwargs):
        if method.__name__ in board.raising:
            raise TypeError("Traceback of the binding\n  argument 1 must be str")
        return method(*args, **kwargs)

    return call


class RKNNLite:
    NPU_CORE_AUTO = 0
    NPU_CORE_0 = 1
    NPU_CORE_1 = 2
    NPU_CORE_2 = 4
    NPU_CORE_0_1 = 3
    NPU_CORE_0_1_2 = 7
    NPU_CORE_ALL = 0xFFFF

    @may_raise
    def __init__(self, verbose=False, verbose_file=None):
        self.rknn_data = None
        self.rknn_runtime = None

    @may_raise
    def load_rknn(self, path, key_path=None):
        if not os.path.exists(path):
            return -1
        with open(path, "rb") as file:
            self.rknn_data = file.read()
        return board.load_code

    def list_support_target_platform(self, rknn_model=None):
        if not os.path.exists(rknn_model):
            return None
        # The real one prints its answer on stdout and raises TypeError on other files.
        os.write(1, b"Target platforms supported by this RKNN model\n")
        return OrderedDict(support_target_platform=list(board.platforms))

    @may_raise
    def init_runtime(self, target=None, device_id=None, async_mode=False, core_mask=NPU_CORE_AUTO):
        import onnxruntime

        if self.rknn_data is None or core_mask not in (0, 1, 2, 3, 4, 7, 0xFFFF):
            return -1
        board.core_mask = core_mask
        if board.init_code == 0:
            os.write(1, b"I RKNN: librknnrt version\n")
            self.rknn_runtime = onnxruntime.InferenceSession(
                self.rknn_data, providers=["CPUExecutionProvider"]
            )
        return board.init_code

    @may_raise
    def inference(
        self,
        inputs,
        data_type=None,
        data_format=None,
        inputs_pass_through=None,
        get_frame_id=False,
        reuse_outputs=False,
    ):
        if self.rknn_runtime is None:
            return None
        if board.outputs is not None:
            return board.outputs()
        if any(array.dtype == np.float64 for array in inputs):
            return None
        # 4-D inputs are NHWC unless told otherwise; a list such as ['nchw'] raises.
        fed = [a.transpose(0, 3, 1, 2) if a.ndim == 4 else a for a in inputs]
        names = ("bev", "proprio")
        try:
            return self.rknn_runtime.run(
                None, {n: np.ascontiguousarray(a) for n, a in zip(names, fed)}
            )
        except Exception:
            return None

    @may_raise
    def get_sdk_version(self):
        if self.rknn_runtime is None:
            return None
        return "API version: 2.5.0 (fake)\nDRV version: 0.9.8"

    @may_raise
    def release(self):
        board.released += 1
        self.rknn_runtime = None
