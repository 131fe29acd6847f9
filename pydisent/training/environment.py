"""The versions and the machine a run used."""

from pydisent._environment import environment

__all__ = ["environment"]
