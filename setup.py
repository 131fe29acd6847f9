"""Build of the compiled kernels; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["pydisent*"]), "pydisent.triton_kernels"],
    package_dir={"pydisent.triton_kernels": "triton_kernels"},
)
