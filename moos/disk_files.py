"""Writing a file of a disk so that readers see all of it or nothing."""

import os
import secrets

TEMPORARY = ".tmp"
"""Ending of a file that is being written; one that stays was left by a killed process."""


def write_whole(path: str, data: bytes) -> None:
    """Write a file, and the directories that it lies in: synced under another name, then renamed.

    Where that fails, what was there before stays.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{secrets.token_hex(4)}{TEMPORARY}"
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_directory(os.path.dirname(path))
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _sync_directory(path: str) -> None:
    """Make a rename survive a power cut, where the system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
