"""Triton kernels and their launch functions, one file per op family; installed as a subpackage."""
