"""What a call would launch on a GPU, counted on the CPU by a stub of Triton's launcher."""

from torch.utils._python_dispatch import TorchDispatchMode

#: Allocations, which put nothing on the device's stream.
_ALLOCATE = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
#: The most programs along each axis of a grid.
GRID = (2**31 - 1, 65535, 65535)


class Launches(TorchDispatchMode):
    """Names of the kernels launched meanwhile: Triton's, and PyTorch's that are no mere views.

    Triton's do not run, and leave their outputs as they are.
    """

    def __init__(self, monkeypatch):
        from triton.runtime.jit import JITFunction

        super().__init__()
        self.names = []
        monkeypatch.setattr(JITFunction, "run", self._launch)

    def _launch(self, *args, grid, warmup, **options):
        assert not warmup
        assert all(type(n) is int and 0 < n <= most for n, most in zip(grid, GRID)), grid
        self.names.append("triton")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        if not (func.is_view or name in (*_ALLOCATE, "detach")):
            self.names.append(name)
        return func(*args, **(kwargs or {}))
