"""What loss, gradient and products with second derivatives are timed on.

A subject is ``{member: call without arguments}``; everything it needs is made beforehand.
"""

from itertools import groupby, pairwise

import numpy as np

from bench import cases, libraries
from deltajit import kernels, reference

LOSS, GRADIENT, HVP = "loss", "gradient", "hvp"
KEPT, PER_SAMPLE = "hvp at a kept point", "per-sample gradients"

# Matrix products of a member, in those of a forward sweep, and how many fewer the first layer has,
# whose inputs have neither a delta nor a tangent: forward and back of a step are 3 - 1, and the
# R-operator's sweeps take each product twice.
PRODUCTS = {LOSS: (1, 0), GRADIENT: (3, 1), HVP: (8, 5), KEPT: (6, 4), PER_SAMPLE: (3, 1)}

WIDE = [(4, 8, 8, 1), (8, 32, 32, 4), (16, 64, 64, 8), (64, 128, 128, 10), (128, 256, 256, 10)]
WIDE += [(512, 512, 512, 10), (1024, 1024, 1024, 10), (2048, 2048, 2048, 1024)]
DEEP = [(8, *[16] * 6, 4), (64, *[96] * 8, 10), (256, *[256] * 8, 10)]
FLAT = [(32, 64, 2), (256, 1024, 10), (784, 4096, 10)]
LARGEST = WIDE[-1]
QUICK = [*WIDE[:2], *WIDE[3:6], *DEEP[1:], LARGEST]  # a few of each size
LARGEST_PER_SAMPLE = 1 << 26  # floats of gradients of samples: 256 MiB


def problem(sizes, batch):
    """Random weights and samples; tanh, identity and squared error, float32."""
    several = cases.problem(cases.Case(sizes, "tanh", batch))
    return several._replace(X=several.X[:batch], Y=several.Y[:batch])


def direction(problem):
    """Random numbers for each W, and for each b."""
    rng = np.random.default_rng(1)
    parts = problem.W, problem.b
    return [[rng.normal(size=x.shape).astype(x.dtype) for x in part] for part in parts]


def name(sizes):
    """Such as ``64-128-10``; four layers or more of one size are ``64-8x96-10``."""
    runs = [(size, len([*run])) for size, run in groupby(sizes)]
    parts = [f"{k}x{size}" if k > 3 else "-".join([str(size)] * k) for size, k in runs]
    return "-".join(parts)


def flops(sizes, batch, member):
    """Of the matrix products that a member needs."""
    products = [n * m for n, m in pairwise(sizes)]
    times, fewer = PRODUCTS[member.rpartition(": ")[2]]
    return 2 * batch * (times * sum(products) - fewer * products[0])


def deltajit(problem):
    subject = libraries.Deltajit(problem)
    net, model, X, Y, grad = subject.net, subject.net.model, subject.X, subject.Y, subject.grad
    work, out, v = net.workspace(len(X), 2), np.empty_like(grad), net.flatten(*direction(problem))
    points = np.empty(kernels.points_size(model, len(X)), grad.dtype)
    kernels.linearize(model, X, Y, grad, points, work)
    calls = {
        LOSS: lambda: kernels.loss(model, X, Y, work),
        GRADIENT: lambda: kernels.value_and_grad(model, X, Y, grad, work),
        HVP: lambda: kernels.hvp(model, X, Y, v, out, work),
        KEPT: lambda: kernels.hvp_at(model, X, Y, points, v, out, work),
    }
    if len(X) * grad.size <= LARGEST_PER_SAMPLE:
        each = np.empty((len(X), grad.size), grad.dtype)
        calls[PER_SAMPLE] = lambda: kernels.per_sample_grads(model, X, Y, each, work)
    return calls


def numpy(problem):
    """The NumPy reference, which is written to be read."""
    model, X, Y = libraries.Deltajit(problem).net.reference, problem.X, problem.Y
    v = direction(problem)
    return {
        LOSS: lambda: reference.loss(model, X, Y),
        GRADIENT: lambda: reference.value_and_grad(model, X, Y),
        HVP: lambda: reference.hvp(model, X, Y, *v),
    }


def floats_moved(sizes):
    """The least of a sample's gradient: read W, all but the first once more, and write dW."""
    products = [n * m for n, m in pairwise(sizes)]
    return 3 * sum(products) - products[0]


def memory(problem):
    """Only move what a gradient of one sample must, in operations of NumPy."""
    theta = np.concatenate([W.ravel() for W in problem.W])
    grad, first = np.empty_like(theta), problem.W[0].size

    def move():
        theta @ theta
        grad[:first] = 1
        np.multiply(theta[first:], np.float32(2), out=grad[first:])

    return {GRADIENT: move}
