"""The Triton kernels: in a checkout those of the folder at its top, in an installation this one."""

from pathlib import Path

# A build puts that folder's own __init__.py in place of this one.
__path__ = [str(Path(__file__).parents[2] / "triton_kernels")]
