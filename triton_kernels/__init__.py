"""Triton kernels and their launch functions, one file an op family; installed as a subpackage."""
