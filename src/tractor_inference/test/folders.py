"""Looking at folders in tests."""

import os


def snapshot(folder):
    """Every path below a folder with its content, or its target when it is a link."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink()
        else path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }  # fmt: skip
