"""The mark of tests that need the compiled kernels."""

import pytest

from pydisent import _backends

_reason = _backends.native_reason("cpu")
needs_native = pytest.mark.skipif(_reason != "", reason=_reason or "built")
