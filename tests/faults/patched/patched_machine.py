"""A clock or a disk that breaks under a job, or a process that stops where the harness wants it.

The file that `MOOS_TEST_MACHINE` names holds what is broken at this moment, as
`tests.faults.machine.MachineFault`; without the file nothing is. What was struck is written, a
line each, into a file beside it. A clock is only ever moved where `MOOS_TEST_CLOCK` is set, too.
"""

import builtins
import errno
import io
import json
import os
import re
import time

_CONTROL = os.environ.get("MOOS_TEST_MACHINE", "")
_CLOCK_MOVES = "MOOS_TEST_CLOCK" in os.environ
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.tmp$")
_HELD_S = 3600

_now, _now_ns = time.time, time.time_ns
_open, _fsync, _replace, _stat = builtins.open, os.fsync, os.replace, os.stat
_known = (0, None)


def _read_fault():
    """What is broken for this process now, or None."""
    global _known
    try:
        changed = _stat(_CONTROL).st_mtime_ns
    except OSError:
        return None
    if changed != _known[0]:
        with _open(_CONTROL, encoding="utf-8") as stream:
            _known = changed, json.load(stream)
    fault = _known[1]
    is_here = fault["process"] in (None, os.getpid()) and fault["parent"] in (None, os.getppid())
    return fault if is_here else None


def _num_struck():
    try:
        with _open(f"{_CONTROL}.struck", "rb") as stream:
            return stream.read().count(b"\n")
    except OSError:
        return 0


def _note(what):
    with _open(f"{_CONTROL}.struck", "ab") as stream:
        stream.write(f"{what}\n".encode())


# The clock.


def _offset_s():
    fault = _read_fault()
    if fault is None or fault["deed"] != "clock":
        return 0.0
    if not _num_struck():
        _note("the time was asked for")
    return fault["offset_s"]


def _move_clock():
    # Not `datetime`, whose layout libraries in C rely on: of leases and events, only times that
    # are for people come from it.
    time.time = lambda: _now() + _offset_s()
    time.time_ns = lambda: _now_ns() + int(_offset_s() * 1e9)


# The disk.


def _strike(operation, path):
    """Raise where this operation on this path is to fail now; True where a part is to be done."""
    fault = _read_fault()
    if fault is None or fault["deed"] != "error" or not path.startswith(fault["root"]):
        return
    name = _TEMPORARY.sub("", path.removeprefix(fault["root"]).lstrip("/"))
    num_struck = _num_struck()
    is_full = fault["lasts"] and num_struck and operation == "write"
    is_meant = operation == fault["operation"] and re.search(fault["place"], name)
    if is_full or (is_meant and num_struck < fault["most"]):
        _note(f"{operation} {name}")
        code = getattr(errno, fault["error"])
        raise OSError(code, os.strerror(code), path)


class _BreakingFile(io.FileIO):
    """A file whose writes may fail, a part of them done."""

    def write(self, data):
        try:
            _strike("write", self.name)
        except OSError:
            super().write(bytes(data)[: len(data) // 2])
            raise
        return super().write(data)


def _open_breaking(file, mode="r", *arguments, **settings):
    if mode == "wb" and isinstance(file, str) and _read_fault() is not None:
        return io.BufferedWriter(_BreakingFile(file, "wb"))
    return _open(file, mode, *arguments, **settings)


def _fsync_breaking(descriptor):
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    _strike("fsync", f"{path}/" if os.path.isdir(path) else path)
    return _fsync(descriptor)


def _replace_breaking(source, target, **settings):
    _strike("replace", os.fspath(target))
    return _replace(source, target, **settings)


def patch_standard_library():
    """Let clock and disk follow the control file."""
    if _CLOCK_MOVES:  # for it cannot be pickled any more, which Ray does where nodes are several
        _move_clock()
    builtins.open = _open_breaking
    os.fsync = _fsync_breaking
    os.replace = _replace_breaking


# A process that stops in the middle of a commit, until it is killed.


def _hold(moment, name):
    fault = _read_fault()
    if fault is None or fault["deed"] != "hold":
        return
    if moment == fault["operation"] and re.search(fault["place"], name):
        _note(f"{moment} {name}")
        time.sleep(_HELD_S)


def patch(module):
    """Change `moos.storage`, just imported."""
    put = module.Storage.put

    def put_held(self, name, data):
        _hold("before", name)
        put(self, name, data)
        _hold("after", name)

    module.Storage.put = put_held
