from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
from whisper_server.inference.hardware.malloc import keep_freed_memory, release_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def touch():
    before = faults()
    np.full(2**24, 1.0, np.float32)
    return faults() - before

print(keep_freed_memory())
touch()
print(touch())
release_freed_memory()
print(touch())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_freed_memory_is_kept_until_it_is_released() -> None:
    """Runs in a process of its own, as the setting applies to the whole process."""
    printed = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    kept, again, released = printed.split()
    assert kept == "True"
    assert int(again) < 100
    assert int(released) > 3 * int(again) + 100
