"""Samples for tests: good ones, and what an attacker or a bad disk may leave."""

import io
import os
import zipfile

import numpy as np

from tractor_core import contract as contract_module
from tractor_core import samples
from tractor_core.paths import default_params_file
from tractor_core.samples import Sample

CONTRACT = contract_module.load(default_params_file())


def frame(seed=0, stamp_ns=7):
    rng = np.random.default_rng(seed)
    bev = (rng.random(CONTRACT.bev_shape) < 0.05).astype(np.float32)
    proprio = np.array([1.0, 0.5, -0.5, 0.1, 0.2, 0.3], np.float32)
    return Sample(bev, proprio, stamp_ns)


def save(folder, **members):
    good = frame()
    content = {"bev": good.bev, "proprio": good.proprio} | members
    path = folder / "calib_1.npz"
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return path


def write_hostile_samples(folder):
    """Write a file of each kind that an attacker, or a bad disk, may leave; return them."""
    bev, proprio = frame().bev, frame().proprio
    headers = {
        "no_character": b"{'descr':'<U1','fortran_order':False,'shape':()}",
        "deep": b"{'descr':'<U1','fortran_order':False,'shape':" + b"(" * 400 + b")" * 400 + b"}",
        "signs": b"{'descr':'<U1','fortran_order':False,'shape':" + b"-" * 900 + b"1}",
        "negative": b"{'descr':'<U1','fortran_order':False,'shape':(-1,)}",
        "huge": b"{'descr':'<U999999999','fortran_order':False,'shape':()}",
        "several": b"{'descr':'<U1','fortran_order':False,'shape':(1,)}",
        "fields": b"{'descr':[('a','<f4')],'fortran_order':False,'shape':()}",
    }
    for name, header in headers.items():
        with zipfile.ZipFile(folder / f"calib_0_{name}.npz", "w") as archive:
            for member, array in (("bev", bev), ("proprio", proprio)):
                data = io.BytesIO()
                np.lib.format.write_array(data, array)
                archive.writestr(f"{member}.npy", data.getvalue())
            start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
            archive.writestr("contract.npy", start + header + b"\xff\xff\xff\xff")
    with zipfile.ZipFile(folder / "calib_0_many.npz", "w") as archive:
        for number in range(500):
            archive.writestr(str(number), b"")
    whole = save(folder).read_bytes()
    (folder / "calib_1.npz").rename(folder / "calib_0_encrypted.npz")
    # The bit that says so, in both headers: https://pkware.cachefly.net/webdocs/APPNOTE.TXT, 4.4.4
    data = bytearray(whole)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 1)
    (folder / "calib_0_encrypted.npz").write_bytes(data)
    os.mkfifo(folder / "calib_0_pipe.npz")
    (folder / "calib_0_folder.npz").mkdir()
    return samples.list_files(folder)
