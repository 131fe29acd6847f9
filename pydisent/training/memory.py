"""The C library's memory allocator."""

import ctypes
import platform

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**25  # bytes; the largest value that every glibc accepts
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process keep freed memory, if its C library is glibc.

    By default glibc returns the memory of large tensors to the system and maps it again, page by
    page, at every step, which takes up to a quarter of the time of small convolutional networks.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_M_TRIM_THRESHOLD, _NEVER)
