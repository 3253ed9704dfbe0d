"""Train the network of an estimator: epochs of minibatches by SGD or Adam, or L-BFGS.

scikit-learn divides its penalties by the weight of a minibatch, and the kernels add theirs to the
mean loss: so l2 is set to ``alpha / weight`` before each call, for the samples that it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, OptimizeResult, minimize
from scipy.sparse import issparse

from deltajit import kernels
from deltajit.kernels.blocks import LARGEST_BLOCK
from deltajit.kernels.mlp.calls import calls_for
from deltajit.kernels.mlp.optimizers import SGD, Adam
from deltajit.model import checks, memory
from deltajit.model.memory import Array
from deltajit.network import Network
from deltajit.sklearn.samples import DENSE, Matrix, Samples, dense, parts
from deltajit.training.loop import pieces
from deltajit.training.minibatches import Steps, dropout_of


class Penalty(NamedTuple):
    """Penalize weights by ``alpha/2 * sum(W**2) + l1 * sum(|W|)`` over the samples' weight.

    The kernels' penalty is also of so many fixed weights of 1, which a loss is to leave out.
    """

    alpha: float
    l1: float
    ones: int

    def over(self, model: kernels.Model, weight: float) -> None:
        """Set the model's penalties for samples of this weight."""
        model.network["l2"], model.network["l1"] = self.alpha / weight, self.l1 / weight

    def of_ones(self, weight: float) -> float:
        """Compute what fixed weights add to the kernels' loss of samples of this weight."""
        return self.ones * (0.5 * self.alpha + self.l1) / weight

    def value(self, net: Network, weight: float) -> float:
        """Compute the penalty, of free weights, in the loss of samples of this weight."""
        squares = sum(float(np.vdot(W, W)) for W in net.weights)
        sizes = sum(float(abs(W).sum()) for W in net.weights)
        whole = (0.5 * self.alpha * squares + self.l1 * sizes) / weight
        return whole - self.of_ones(weight)


class Optimizer:
    """Hold the state of SGD or Adam, which `partial_fit` keeps from call to call."""

    def __init__(self, estimator: Any, net: Network, rng: np.random.RandomState) -> None:
        lr = estimator.learning_rate_init
        self.schedule = estimator.learning_rate if estimator.solver == "sgd" else "constant"
        self.initial_rate, self.power_t = lr, estimator.power_t
        method: SGD | Adam
        if estimator.solver == "sgd":
            # scikit-learn allows a momentum of 1, and nesterovs_momentum without any
            momentum = min(float(estimator.momentum), np.nextafter(1.0, 0.0))
            method = SGD(lr, momentum, bool(estimator.nesterovs_momentum) and momentum > 0)
        else:
            method = Adam(lr, (estimator.beta_1, estimator.beta_2), estimator.epsilon)
        self.rule = method.rule(net.n_params, net.dtype)
        n_hidden = len(estimator._hidden()[0])
        shares = checks.dropout(estimator.dropout, n_hidden)
        embeddings = [0.0] * (len(net.sizes) - 2 - n_hidden)
        self.dropout = dropout_of(
            [*embeddings, *shares],
            len(net.sizes) - 2,
            lambda: rng.randint(2**63, size=1, dtype=np.uint64),
        )

    @property
    def learning_rate(self) -> float:
        """Return the learning rate, which may be set between epochs of SGD."""
        return float(self.rule.rates[0])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        # scikit-learn's velocity contains past learning rates, the kernels' does not
        self.rule.state[:] *= self.learning_rate / value
        self.rule.rates[0] = value

    def epoch_ends(self, samples: int) -> None:
        """Set the rate of the next epoch, for "invscaling", after so many samples in all."""
        if self.schedule == "invscaling":
            self.learning_rate = self.initial_rate / (samples + 1) ** self.power_t


def project(net: Network, bounds: Bounds | None) -> None:
    """Move each element of theta into its bounds, if there are any."""
    if bounds is not None:
        np.clip(net.theta, bounds.lb, bounds.ub, out=net.theta)


def epochs(
    net: Network,
    samples: Samples,
    batch_size: int,
    optimizer: Optimizer,
    penalty: Penalty,
    bounds: Bounds | None,
) -> Callable[[NDArray[np.int64]], float]:
    """Return a function that trains for one epoch on an order of samples, and returns its loss.

    That is the mean over samples of their minibatch's loss, taken before its step. The epoch ends
    early if it is not finite. Each step is followed by a projection into the bounds.
    """
    step = Steps(net, optimizer.rule, batch_size, optimizer.dropout)
    sparse, most = issparse(samples.X), np.inf
    if samples.weights is not None or bounds is not None:
        most = 1  # each minibatch has its own penalty, or is followed by a projection
    elif sparse:
        most = DENSE // (batch_size * net.sizes[0])

    def train(rows: NDArray[np.int64]) -> float:
        some = samples
        if sparse:
            some, rows = samples.pick(rows).dense(), np.arange(len(rows))
        total, weight = step(rows, *some)
        return float(total / weight)

    def weight_of(rows: NDArray[np.int64]) -> float:
        """Return the weight of a minibatch."""
        if samples.weights is None:
            return float(min(batch_size, len(rows)))
        return float(samples.weights[rows].sum())

    def epoch(order: NDArray[np.int64]) -> float:
        total, whole = 0.0, len(order) - len(order) % batch_size
        for part in order[:whole], order[whole:]:  # the last minibatch has its own penalty
            for rows in pieces(part, batch_size, net.n_params, most):
                weight = weight_of(rows)
                if weight > 0:
                    penalty.over(net.model, weight)
                    total += (train(rows) - penalty.of_ones(weight)) * len(rows)
                    project(net, bounds)
                if not math.isfinite(total):
                    return total / len(order)
        return total / len(order)

    return epoch


def lbfgs(
    net: Network,
    samples: Samples,
    penalty: Penalty,
    bounds: Bounds | None,
    options: dict[str, float],
    report: Callable[[float], None],
) -> OptimizeResult:
    """Minimize the loss of all samples; theta changes in place. Return scipy's result.

    `options` are those of scipy's L-BFGS-B; ``report(loss)`` is called after each iteration.
    """
    model, grad = net.model, memory.empty(net.n_params, net.dtype)
    work, calls = net.workspace(LARGEST_BLOCK), calls_for(net.dtype)
    penalty.over(model, samples.weight)

    def loss_and_grad(theta: Array) -> tuple[float, Array]:
        net.theta[:] = theta
        loss, slope = -penalty.of_ones(samples.weight), np.zeros(net.n_params)
        for part in parts(samples.X):
            some = samples.pick(part).dense()
            share = some.weight / samples.weight
            if share > 0:
                X, Y, weights = some
                loss += share * calls.value_and_grad(model, X, Y, weights, grad, work)
                slope += share * grad
        return loss, slope

    result = minimize(
        loss_and_grad,
        net.theta.astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        callback=lambda intermediate_result: report(float(intermediate_result.fun)),
        options=options,
    )
    net.theta[:] = result.x
    return result


def outputs(net: Network, X: Matrix) -> Array:
    """Compute the network's outputs (n, n_out), some rows of X at a time."""
    return np.concatenate([net.predict(dense(X[part])) for part in parts(X)])


def mean_loss(net: Network, samples: Samples) -> float:
    """Compute the weighted mean of the samples' losses, without penalties."""
    model, work, total = net.model, net.workspace(LARGEST_BLOCK), 0.0
    loss = calls_for(net.dtype).loss
    model.network["l2"] = model.network["l1"] = 0
    for part in parts(samples.X):
        some = samples.pick(part).dense()
        if some.weight > 0:
            total += some.weight * loss(model, some.X, some.Y, some.weights, work)
    return total / samples.weight
