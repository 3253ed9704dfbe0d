"""What loss, gradient and products with second derivatives are timed on, library by library.

A subject is ``{member: call without arguments}``; everything it needs is made beforehand.
"""

from itertools import groupby, pairwise

import numpy as np

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
SIMPLE_CHAINS = (4, 32, 16, 4)  # the small network on many samples
LARGEST_PER_SAMPLE = 1 << 26  # floats of gradients of samples: 256 MiB


def count_parameters(sizes):
    """Weights and biases."""
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))


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


FULL = sorted(WIDE + DEEP + FLAT, key=count_parameters)
LARGEST = FULL[-1]
QUICK = [
    sizes for sizes in FULL if sizes in [*WIDE[:2], *WIDE[3:6], DEEP[1], DEEP[2], LARGEST]
]  # a few of each size


class Problem:
    """Random weights, samples and a direction; tanh, identity and squared error, float32."""

    def __init__(self, sizes, batch, seed=0):
        rng = np.random.default_rng(seed)
        self.sizes, self.batch, self.n_params = sizes, batch, count_parameters(sizes)
        self.X = rng.normal(size=(batch, sizes[0])).astype(np.float32)
        self.Y = rng.normal(size=(batch, sizes[-1])).astype(np.float32)
        self.W = [(rng.normal(size=(m, n)) / np.sqrt(n)).astype("f4") for n, m in pairwise(sizes)]
        self.b = [(0.1 * rng.normal(size=m)).astype("f4") for m in sizes[1:]]
        self.VW = [rng.normal(size=W.shape).astype("f4") for W in self.W]
        self.vb = [rng.normal(size=b.shape).astype("f4") for b in self.b]

    @property
    def activations(self):
        """Floats that a forward sweep makes, its inputs counted."""
        return self.batch * sum(self.sizes)


def deltajit(problem):
    """The kernels, on one thread."""
    import deltajit as dj
    from deltajit import kernels

    net = dj.Network(problem.sizes, "tanh", "identity", "squared_error", threads=1)
    for view, value in zip(net.weights + net.biases, problem.W + problem.b, strict=True):
        view[...] = value
    model, X, Y, work = net.model, problem.X, problem.Y, net.workspace(problem.batch, 2)
    v, grad, out = net.flatten(problem.VW, problem.vb), net.grad(X, Y), np.empty_like(net.theta)
    points = np.empty(kernels.points_size(model, problem.batch), np.float32)
    kernels.linearize(model, X, Y, grad, points, work)
    calls = {
        LOSS: lambda: kernels.loss(model, X, Y, work),
        GRADIENT: lambda: kernels.value_and_grad(model, X, Y, grad, work),
        HVP: lambda: kernels.hvp(model, X, Y, v, out, work),
        KEPT: lambda: kernels.hvp_at(model, X, Y, points, v, out, work),
    }
    if problem.batch * problem.n_params <= LARGEST_PER_SAMPLE:
        each = np.empty((problem.batch, problem.n_params), np.float32)
        calls[PER_SAMPLE] = lambda: kernels.per_sample_grads(model, X, Y, each, work)
    return calls


def numpy(problem):
    """The NumPy reference, which is written to be read."""
    from deltajit import reference

    activations = ("tanh",) * (len(problem.W) - 1) + ("identity",)
    model = reference.Model(tuple(problem.W), tuple(problem.b), activations, "squared_error")
    X, Y = problem.X, problem.Y
    return {
        LOSS: lambda: reference.loss(model, X, Y),
        GRADIENT: lambda: reference.value_and_grad(model, X, Y),
        HVP: lambda: reference.hvp(model, X, Y, problem.VW, problem.vb),
    }


def floats_moved(sizes):
    """The least that a gradient of one sample moves: W read forward and back, and dW written.

    Nothing goes back through the first layer's W.
    """
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


def jax(problem):
    """Each in one jit; the product by forward over reverse, and linearized at the kept point."""
    import jax
    import jax.numpy as jnp

    def loss(params):
        a = X
        for W, b in params[:-1]:
            a = jnp.tanh(a @ W + b)
        W, b = params[-1]
        return ((a @ W + b - Y) ** 2).sum() / (2 * len(X))

    X, Y = jnp.asarray(problem.X), jnp.asarray(problem.Y)
    params, v = (
        [(jnp.asarray(W.T.copy()), jnp.asarray(b)) for W, b in zip(*pair, strict=True)]
        for pair in ((problem.W, problem.b), (problem.VW, problem.vb))
    )
    gradient = jax.jit(jax.value_and_grad(loss))
    hvp = jax.jit(lambda p, v: jax.jvp(jax.grad(loss), (p,), (v,))[1])
    value = jax.jit(loss)
    _, frozen = jax.linearize(jax.grad(loss), params)
    frozen = jax.jit(frozen)
    return {
        LOSS: lambda: value(params).block_until_ready(),
        GRADIENT: lambda: jax.block_until_ready(gradient(params)),
        HVP: lambda: jax.block_until_ready(hvp(params, v)),
        KEPT: lambda: jax.block_until_ready(frozen(v)),
    }


def torch(problem):
    """Eager: backward, and backward through backward."""
    import torch

    def loss():
        a = X
        for W, b in zip(weights[:-1], biases[:-1], strict=True):
            a = torch.tanh(torch.nn.functional.linear(a, W, b))
        out = torch.nn.functional.linear(a, weights[-1], biases[-1])
        return ((out - Y) ** 2).sum() / (2 * len(X))

    torch.set_num_threads(1)
    X, Y = torch.from_numpy(problem.X), torch.from_numpy(problem.Y)
    weights, biases = (
        [torch.tensor(x, requires_grad=True) for x in arrays] for arrays in (problem.W, problem.b)
    )
    v = [torch.from_numpy(x) for x in problem.VW + problem.vb]

    def value():
        with torch.no_grad():
            return loss()

    def hvp():
        grads = torch.autograd.grad(loss(), weights + biases, create_graph=True)
        return torch.autograd.grad(grads, weights + biases, v)

    return {
        LOSS: value,
        GRADIENT: lambda: torch.autograd.grad(loss(), weights + biases),
        HVP: hvp,
    }
