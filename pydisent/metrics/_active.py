"""Active codes: those that vary noticeably over the data.

There are two definitions, as metrics differ. The FactorVAE score and SAP leave out codes whose
standard deviation is below an absolute threshold, 0.05 by default, where the prior's is 1; and the
linear classifiers of z-diff and SAP are regularised, so that small codes have little effect. For
these, a code is active from that threshold on. MIG, DCI, modularity and IRS do not depend on the
scale of codes. For these, a code is active if its standard deviation is at least 0.05 of the
largest. A code that varies only by rounding is never active.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pydisent._notice import warn_once

ACTIVE_STD = 0.05
ACTIVE_SHARE = 0.05  # of the largest standard deviation
ROUNDING = 2.0**-20  # of the largest code: a few float32 steps


def active_codes(codes: np.ndarray, least: float | None) -> np.ndarray:
    """Return which codes are active, (d,) bool.

    Parameters
    ----------
    codes : numpy.ndarray
        (N, d) codes of images.
    least : float or None
        Minimum standard deviation of an active code; None for a fraction of the largest.
    """
    std = codes.std(0, dtype=np.float64)
    threshold = ACTIVE_SHARE * std.max() if least is None else least
    return (std >= threshold) & (std > ROUNDING * np.abs(codes).max(0))


def activity(codes: np.ndarray, least: float | None = None) -> dict[str, Any]:
    """Return the number of active codes, as details of a result; warn once if it is at most one.

    Parameters
    ----------
    codes, least
        As for `active_codes`.

    Returns
    -------
    dict
        ``active_codes``, and a ``notice`` if that is at most one.
    """
    count = int(active_codes(codes, least).sum())
    if count > 1:
        return {"active_codes": count}
    if least is None:
        notice = (
            f"at most one code is active, the others' standard deviations are below {ACTIVE_SHARE} "
            "of its own: scores rest on what is all but constant"
        )
    else:
        notice = (
            f"at most one code is active, with a standard deviation of at least {least:.3g}: "
            "scores that leave out the others are of one code or none, and jump with the codes' "
            "scale"
        )
    warn_once(notice)
    return {"active_codes": count, "notice": notice}
