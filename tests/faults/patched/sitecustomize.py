"""Breaks a job from inside: put this directory first on PYTHONPATH of a job.

Python imports a module of this name before anything else, in every process that inherits the
environment: a job, its Ray workers, its `spawn` children. Nothing of moos is imported here; a
module of moos is changed once the program imports it.

* `patched_poison`: documents that break their process, always; they say so themselves
* `patched_machine`: a clock or a disk that breaks, where `MOOS_TEST_MACHINE` names a control file
"""

import importlib.machinery
import os
import sys

import patched_machine
import patched_poison

_PATCHES = {"moos.preparation": patched_poison.patch}
if "MOOS_TEST_MACHINE" in os.environ:
    patched_machine.patch_standard_library()
    _PATCHES["moos.storage"] = patched_machine.patch


class _Patcher:
    """Finds a module as the other finders do, and changes it as soon as it is run."""

    def find_spec(self, name, path=None, target=None):
        if name not in _PATCHES:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if isinstance(spec.loader, importlib.machinery.SourceFileLoader):
                    self._wrap(spec.loader, _PATCHES[name])
                return spec
        return None

    def _wrap(self, loader, patch):
        run = loader.exec_module

        def exec_module(module):
            run(module)
            patch(module)

        loader.exec_module = exec_module


sys.meta_path.insert(0, _Patcher())
