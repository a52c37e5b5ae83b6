"""Limits of the process, here the one on memory that the allocator returns."""

import platform
import subprocess
import sys

import pytest

COUNT_PAGE_FAULTS = """
import resource, sys
import numpy as np
from kdcore.runtime import limits
from kdcore.protocol.requests import IngestRequest
if sys.argv[1] == "retain":
    limits.apply_limits(IngestRequest(source="archive", path="none"))
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(64 << 20, np.uint8)
before = faults()
for _ in range(10):
    np.ones(64 << 20, np.uint8)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_retained_for_the_next_batch():
    retained, returned = (
        int(subprocess.check_output([sys.executable, "-c", COUNT_PAGE_FAULTS, word]))
        for word in ("retain", "")
    )
    # With and without huge pages: memory that is used again still has its pages.
    assert returned > 10
    assert retained < returned / 5
