"""The memory that the C library keeps."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def reuse_memory() -> None:
    """Let the C library keep freed blocks of tensors for the next ones, where it is glibc; once per process.

    For programs of our own: in a notebook, arrays that are deleted are to go back to the system.
    By default each tensor of more than 32 MB is a new mapping whose pages the kernel has to clear: of a training step
    on two cores, 40 % of the time was that.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_THRESHOLD, 2**30)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
