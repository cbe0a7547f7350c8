"""Weights that an exporter left beside an ONNX, put back into it.

A file names where each tensor lies, so it could name anything. Taken is what exporters write: plain
files beside the model, as long as the tensors in them say.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tractor_core.errors import ModelError

from ..file import MAX_MODEL_BYTES

# onnx.save can write a file a tensor; an actor has a few dozen.
MAX_FILES = 256
# Digits of a place in a file; more is no place.
_MAX_DIGITS = 18


def stored_tensors(model: Any) -> Iterator[Any]:
    """Yield every tensor that a model stores, those of subgraphs and functions included."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _graph_tensors(graph)


def merge(model: Any, read: Callable[[str], bytes]) -> dict[str, bytes]:
    """Put every tensor that lies beside the model into it.

    Args:
        model: onnx.ModelProto; changed.
        read: returns the bytes of a file in the model's folder, by its name.

    Returns:
        {name: bytes} of the files that were read; empty where all weights are inside.

    Raises:
        ModelError: a tensor lies elsewhere, or its file is not as long as it says; names both.
    """
    import onnx

    files: dict[str, bytes] = {}
    merged = 0
    for tensor in stored_tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        # Some write the place as a path from the model's folder.
        name = entries.get("location", "").removeprefix("./")
        if not _is_plain_name(name):
            raise ModelError(
                f"{tensor.name}: expected its values inside the file, or in a file beside it, "
                f"found them stored outside, in {name!r:.120}"
            )
        if name not in files:
            if len(files) == MAX_FILES:
                raise ModelError(f"expected weights in at most {MAX_FILES} files, found more")
            files[name] = read(name)
        values = _part(tensor, name, len(files[name]), entries)
        merged += len(values)
        if max(merged, sum(map(len, files.values()))) > MAX_MODEL_BYTES:
            raise ModelError(f"expected weights of at most {MAX_MODEL_BYTES} bytes, found more")
        tensor.raw_data = files[name][values.start : values.stop]
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return files


def digest(data: bytes, files: Mapping[str, bytes]) -> str:
    """Return the sha256 (hex) that identifies an actor as it was given.

    It is that of the file. With weights beside it, that of a text with a line a file, the model's
    first and without a name, the others by name: `SHA256  NAME` as sha256sum writes.
    """
    inside = hashlib.sha256(data).hexdigest()
    if not files:
        return inside
    lines = [f"{inside}  \n"]
    lines += [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _is_plain_name(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _part(tensor: Any, name: str, size: int, entries: dict[str, str]) -> range:
    """Return the bytes of a file in which a tensor lies."""
    from onnx import helper

    numbers = {"offset": "0", "length": ""} | entries
    start, length = numbers["offset"], numbers["length"]
    known = all(
        n.isascii() and n.isdigit() and len(n) <= _MAX_DIGITS for n in (start, length or "0")
    )
    if not known:
        raise ModelError(
            f"{tensor.name}: no place in {name}: offset {start!r:.40}, length {length!r:.40}"
        )
    try:
        item = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError) as error:
        raise ModelError(f"{tensor.name}: unknown type {tensor.data_type}") from error
    wanted = math.prod(tensor.dims) * item
    found = int(length) if length else size - int(start)
    if min(tensor.dims, default=1) < 0 or wanted != found or int(start) + wanted > size:
        raise ModelError(
            f"{tensor.name}: expected {wanted} bytes of {name}, {list(tensor.dims)} of {item} "
            f"bytes each, found {found} from byte {int(start)} of {size}; it was cut off, or "
            "belongs to another export: copy it again, together with the .onnx"
        )
    return range(int(start), int(start) + wanted)
