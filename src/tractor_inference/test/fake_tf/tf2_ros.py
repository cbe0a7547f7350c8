"""A fake tf2_ros: transforms from a JSON file that the environment names.

It has the names, arguments and error type of the real one (ROS 2 Jazzy, package tf2_ros_py) that
the suite uses; the real one is part of an apt installation of ROS 2 only.
"""

import json
import os
from pathlib import Path
from types import SimpleNamespace


class TransformException(Exception):
    pass


class Buffer:
    def lookup_transform(self, target_frame, source_frame, time):
        transforms = json.loads(Path(os.environ["FAKE_TF"]).read_text())
        if f"{target_frame} {source_frame}" not in transforms:
            raise TransformException(f'"{source_frame}" passed to lookupTransform does not exist')
        x, y, z, qx, qy, qz, qw = transforms[f"{target_frame} {source_frame}"]
        return SimpleNamespace(
            transform=SimpleNamespace(
                translation=SimpleNamespace(x=x, y=y, z=z),
                rotation=SimpleNamespace(x=qx, y=qy, z=qz, w=qw),
            )
        )


class TransformListener:
    def __init__(self, buffer, node, *, spin_thread=False):
        assert not spin_thread

    def unregister(self):
        pass
