"""A process that used OpenVINO still handles its signals, whatever order its engines end in."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys, threading
from moos import Compressor

heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
engines = [Compressor.load(sys.argv[1], engine="openvino", device="cpu") for _ in range(2)]
if sys.argv[2] == "the first first":
    engines.pop(0)
    engines.clear()
else:
    thread = threading.Thread(target=engines.clear)
    thread.start()
    thread.join()
os.kill(os.getpid(), signal.SIGUSR1)
print("heard", len(heard))
"""


@pytest.mark.parametrize("order", ["the first first", "in another thread"])
def test_a_signal_is_handled_after_engines_have_ended(order, tiny_checkpoint):
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SCRIPT, str(tiny_checkpoint), order],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "heard 1\n"), done.stderr
