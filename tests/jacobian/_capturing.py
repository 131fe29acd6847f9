"""The library made to believe that a CUDA graph is captured."""

import sys


def pretend(monkeypatch):
    for name, module in list(sys.modules.items()):
        if name.startswith("pydisent.jacobian.") and hasattr(module, "is_capturing"):
            monkeypatch.setattr(module, "is_capturing", lambda: True)
