"""Choose the precision of a prior, and the noise of targets, by the evidence (MacKay 1992)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from deltajit.model.memory import Array


class Evidence(NamedTuple):
    """Compute ``log p(Y | X)`` of a posterior with precisions ``beta * eigenvalues + tau``.

    Attributes
    ----------
    eigenvalues : ndarray, (P,)
        Eigenvalues of the Gauss-Newton matrix of the sum of losses.
    size : float
        ``theta @ theta`` of these P parameters.
    error : float
        Sum of losses.
    n_targets : float
        Number of targets.
    gaussian : bool
        Whether targets are Gaussian of precision beta; else beta is 1.
    """

    eigenvalues: Array
    size: float
    error: float
    n_targets: float
    gaussian: bool

    def __call__(self, tau: float, beta: float) -> float:
        """Return the evidence of a prior of precision tau, and targets of precision beta."""
        fit = self.n_targets / 2 * np.log(beta / (2 * np.pi)) if self.gaussian else 0.0
        volume = self.eigenvalues.size * np.log(tau) - np.log(beta * self.eigenvalues + tau).sum()
        return float(fit - beta * self.error + (volume - tau * self.size) / 2)

    def greatest(self, tau: float | None, beta: float | None) -> tuple[float, float]:
        """Return tau and beta, those that are None of the greatest evidence."""
        if not self.gaussian:
            beta = 1.0
        scale = self.eigenvalues.max() or 1.0
        if tau is not None and beta is not None:
            return float(tau), float(beta)
        if tau is not None:
            return float(tau), _argmax(lambda x: self(tau, x), tau / scale)
        if beta is not None:
            return _argmax(lambda x: self(x, beta), beta * scale), float(beta)
        return self._of_ratio(_argmax(lambda x: self(*self._of_ratio(x)), scale))

    def _of_ratio(self, ratio: float) -> tuple[float, float]:
        """Return the best tau and beta of those with ``tau / beta = ratio``."""
        beta = self.n_targets / max(2 * self.error + ratio * self.size, 1e-300)
        return ratio * beta, beta


def _argmax(f: Callable[[float], float], scale: float) -> float:
    """Return where f is greatest from 1e-14 to 1e10 of `scale`, by ever finer grids."""
    low, high = scale * 1e-14, scale * 1e10
    for _ in range(6):
        grid = np.geomspace(low, high, 60)
        best = int(np.argmax([f(x) for x in grid]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return float(grid[best])
