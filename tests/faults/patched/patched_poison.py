"""Documents that break the process that works them; see `sitecustomize.py`.

`prepare_texts` of `moos.preparation` does what a text says:

* `☠raise`: an exception that nobody expects
* `☠hang`: sleeps for ever
* `☠hang-gil`: the same in C with the GIL held, so that no other thread of the process goes on
* `☠memory`: takes memory until it gets no more, or is killed like by the kernel at 4 GiB
* `☠kill`: SIGKILL to its own process
"""

import ctypes
import functools
import os
import signal
import time

SKULL = "\u2620"
MEMORY_LIMIT = 4 << 30
_STEP = 64 << 20


def _raise():
    raise RuntimeError("poison: an exception that nobody expects")


def _hang():
    while True:
        time.sleep(3600)


def _hang_with_gil():
    # PyDLL keeps the GIL during the call; a signal ends one sleep, not the loop.
    sleep = ctypes.PyDLL(None).sleep
    while True:
        sleep(3600)


def _exhaust_memory():
    held = []
    while len(held) * _STEP < MEMORY_LIMIT:
        held.append(b"\xff" * _STEP)
    _kill()


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


_DEEDS = {
    "raise": _raise,
    "hang-gil": _hang_with_gil,
    "hang": _hang,
    "memory": _exhaust_memory,
    "kill": _kill,
}


def _poisoned(function):
    @functools.wraps(function)
    def prepare_texts(texts, *arguments, **settings):
        for text in texts:
            for name, deed in _DEEDS.items() if SKULL in text else ():
                if SKULL + name in text:
                    deed()
        return function(texts, *arguments, **settings)

    return prepare_texts


def patch(module):
    """Change `moos.preparation`, just imported."""
    module.prepare_texts = _poisoned(module.prepare_texts)
