"""Keeps OpenVINO from leaving a signal without a stack to be handled on.

Where OpenVINO's CPU plugin begins, it gives its thread an alternate signal stack, and takes it back
where it ends; if another plugin began in between, or it ends in another thread, then the thread is
left with the address of memory that is gone. Python handles every signal on that stack, so the next
Ctrl-C, SIGTERM or stalled run would end the process by SIGSEGV.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _SignalStack(ctypes.Structure):
    """`stack_t` as Linux lays it out."""

    _fields_ = (
        ("ss_sp", ctypes.c_void_p),
        ("ss_flags", ctypes.c_int),
        ("ss_size", ctypes.c_size_t),
    )


@contextmanager
def keep_signal_stack() -> Iterator[None]:
    """Leave this thread with the signal stack that it had before; a plugin does not mind.

    The one it had is large enough: `faulthandler` asks the system how large that is.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _SignalStack()
    known = libc.sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            libc.sigaltstack(ctypes.byref(before), None)
