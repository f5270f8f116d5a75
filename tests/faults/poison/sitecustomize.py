"""Makes some documents poisonous: put this directory first on PYTHONPATH of a job.

Python imports a module of this name before anything else, in every process that inherits the
environment: a job, its Ray workers, its `spawn` children. Nothing of moos is imported here; once
the program imports `moos.preparation`, its `prepare_texts` does what a text says:

* `☠raise`: an exception that nobody expects
* `☠hang`: sleeps for ever
* `☠hang-gil`: the same in C with the GIL held, so that no other thread of the process goes on
* `☠memory`: takes memory until it gets no more, or is killed like by the kernel at 4 GiB
* `☠kill`: SIGKILL to its own process
"""

import ctypes
import functools
import importlib.machinery
import os
import signal
import sys
import time

MODULE, FUNCTION = "moos.preparation", "prepare_texts"
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


class _Poisoner:
    """Finds `moos.preparation` as the other finders do, and changes it as soon as it is run."""

    def find_spec(self, name, path=None, target=None):
        if name != MODULE:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if isinstance(spec.loader, importlib.machinery.SourceFileLoader):
                    self._wrap(spec.loader)
                return spec
        return None

    def _wrap(self, loader):
        run = loader.exec_module

        def exec_module(module):
            run(module)
            setattr(module, FUNCTION, _poisoned(getattr(module, FUNCTION)))

        loader.exec_module = exec_module


sys.meta_path.insert(0, _Poisoner())
