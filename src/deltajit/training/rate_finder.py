"""Find a learning rate, by a few steps at rates that grow (Smith 2017)."""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltajit.kernels.mlp.optimizers import Adam, Optimizer
from deltajit.model import checks
from deltajit.model.checks import Seed
from deltajit.model.data import checked
from deltajit.model.memory import Array
from deltajit.plot import rates as picture
from deltajit.training.minibatches import Steps

# The losses of steps are averaged with this decay; the test ends where the average has risen by so
# many times what it had fallen.
DECAY, RISE = 0.9, 3


class LearningRates(NamedTuple):
    """Hold what `learning_rate_finder` has seen.

    Attributes
    ----------
    rates : ndarray, (steps,)
        Learning rate of each step.
    losses : ndarray, (steps,)
        Loss of its minibatch, before the step.
    smoothed : ndarray, (steps,)
        Moving average of the losses so far.
    suggestion : float
        A tenth of the rate at which `smoothed` is least.
    """

    rates: Array
    losses: Array
    smoothed: Array
    suggestion: float

    def plot(self, ax: Any = None) -> Any:
        """Draw the losses over the rates.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default on a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            The Axes with the curves: see `deltajit.plot.learning_rates`.
        """
        return picture.learning_rates(self, ax=ax)


def learning_rate_finder(
    net: Any,
    X: ArrayLike,
    Y: ArrayLike,
    optimizer: Optimizer | None = None,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 150,
    batch_size: int = 32,
    sample_weight: ArrayLike | None = None,
    rng: Seed = 0,
) -> LearningRates:
    """Take steps at learning rates that grow, and see at which the loss falls [1]_.

    The steps are those of a copy: the network's theta and generator stay as they are. They end
    where the loss has risen far, or is not finite.

    Parameters
    ----------
    net : Network
        Network that is to be trained.
    X, Y : array_like
        Finite samples, as for `Network.fit`.
    optimizer : Optimizer, optional
        Rule of the steps: ``dj.Adam()`` by default. Its learning rate does not matter.
    lowest, highest : float, > 0
        First and last rate; those between are spaced evenly on a logarithmic axis.
    steps : int, >= 2
        Number of steps.
    batch_size : int
        Samples of a step.
    sample_weight : array_like, (B,), optional
        Weights of the samples, as for `Network.loss`.
    rng : None, int or numpy.random.Generator
        Seed or generator that shuffles the samples.

    Returns
    -------
    LearningRates
        The tuple (rates, losses, smoothed, suggestion); its `plot` draws them.

    Raises
    ------
    ValueError, TypeError
        An argument is wrong, or the loss of the first step is not finite.

    References
    ----------
    .. [1] Smith (2017), Cyclical learning rates for training neural networks, WACV.

    Examples
    --------
    >>> import numpy as np
    >>> import deltajit as dj
    >>> X = np.linspace(-2, 2, 200)[:, None]
    >>> net = dj.Network([1, 32, 1])
    >>> found = dj.learning_rate_finder(net, X, np.sin(X))
    >>> history = net.fit(X, np.sin(X), optimizer=dj.Adam(found.suggestion), progress=False)
    """
    checks.has(net, "net", "a Network", ["architecture", "partial_fit"])
    data = checked(net.architecture, X, Y, sample_weight, finite=True)
    method = checks.optimizer(Adam() if optimizer is None else optimizer)
    if not hasattr(method, "rule") or getattr(method, "full_batch", False):
        raise ValueError(f"optimizer must be one such as dj.SGD(0.1) or dj.Adam(), got {method!r}")
    checks.above_zero(lowest, "lowest")
    if checks.real(highest, "highest") <= lowest:
        raise ValueError(f"highest must be above lowest={lowest}, got {highest}")
    rates = np.geomspace(lowest, highest, checks.whole(steps, "steps", least=2))
    size = min(checks.whole(batch_size, "batch_size"), len(data.X))
    rule = method.rule(net.n_params, net.dtype)._replace(rates=rates)
    step = Steps(copy.deepcopy(net), rule, size, None)
    order, losses, smoothed = _order(len(data.X), size * len(rates), rng), [], []
    for rows in order.reshape(-1, size):
        total, mass = step(rows, *data)
        if mass == 0:
            continue
        if not math.isfinite(total):
            break
        losses.append(total / mass)
        smoothed.append(_mean_of_last(losses))
        if _has_risen(smoothed):
            break
    if not losses:
        raise ValueError("net must have a finite loss on X and Y to begin with")
    least = int(np.argmin(smoothed))
    return LearningRates(
        rates[: len(losses)], np.array(losses), np.array(smoothed), float(rates[least] / 10)
    )


def _order(samples: int, count: int, rng: Seed) -> NDArray[np.int64]:
    """Return the rows of `count` samples, each once before any comes again."""
    generator = checks.generator(rng)
    epochs = [generator.permutation(samples) for _ in range(-(-count // samples))]
    return np.concatenate(epochs)[:count]


def _has_risen(losses: list[float]) -> bool:
    """Return whether the last loss is far above the least, which may be below 0."""
    least = min(losses)
    return losses[-1] - least > RISE * max(losses[0] - least, abs(least))


def _mean_of_last(losses: list[float]) -> float:
    """Return the mean of all losses, weighted by how long ago they were."""
    weights = DECAY ** np.arange(len(losses))[::-1]
    return float(np.average(losses, weights=weights))
