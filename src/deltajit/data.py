"""Samples as the kernels take them."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]


class Data(NamedTuple):
    """Checked samples: X (B, n_in), Y (B, n_out) or (B, 1) labels, weights (B,) or None."""

    X: Array
    Y: Array
    weights: Array | None
