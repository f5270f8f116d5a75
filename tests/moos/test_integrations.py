import subprocess
import sys

import pytest

from moos.integrations.passages import CompressionSettings

BLOCKED = """
import sys
sys.modules[{package!r}] = None  # as if it were not installed
from moos.integrations import {name}
if {name!r} == "MoosBatchCompressor":  # which needs the package for this alone
    MoosBatchCompressor().features({{}})
"""


@pytest.mark.parametrize(
    ("package", "name", "install"),
    [
        ("langchain_core", "MoosDocumentCompressor", "pip install 'moos[langchain]'"),
        ("llama_index", "MoosNodePostprocessor", "pip install 'moos[llama-index]'"),
        ("datasets", "MoosBatchCompressor", "pip install datasets"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(package, name, install):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(package=package, name=name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: this part of moos.integrations needs")
    assert last.endswith(install)


def test_a_process_loads_a_compressor_once_for_equal_settings(tiny_checkpoint):
    one = CompressionSettings(checkpoint=str(tiny_checkpoint), device="cpu", rate=0.5)
    other = CompressionSettings(checkpoint=str(tiny_checkpoint), device="cpu", rate=0.2)
    assert one.load() is other.load()
    assert one.load() is not CompressionSettings(checkpoint=str(tiny_checkpoint), threads=1).load()
