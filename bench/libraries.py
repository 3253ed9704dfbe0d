"""One class for each library, all with the same methods, each in that library's usual way.

    train(steps)       do `steps` training steps on the first so many batches; losses are computed
    value_and_grad()   loss and gradient of the first batch, in the library's own form
    predict()          outputs for the first batch
    parameters()       every weight matrix (n_out, n_in), then every bias, as arrays
    gradient()         the same of `value_and_grad`: (loss, arrays)

All of them hold the data ready in the library's own arrays before anything is timed.
"""

import importlib.util
from itertools import pairwise

import numpy as np

import deltajit as dj
from deltajit import kernels

BETAS, EPS = (0.9, 0.999), 1e-8


class Library:
    """What the libraries share; `package` is what must be installed."""

    name = package = ""

    def __init__(self, problem):
        self.case, self.lr, self.most = problem.case, problem.lr, problem.batches


class Deltajit(Library):
    """Steps: one call of `kernels.fit_epoch`. Calls: the methods of `Network`."""

    name = package = "deltajit"

    def __init__(self, problem):
        super().__init__(problem)
        case = self.case
        self.net = dj.Network(case.sizes, case.activation, case.output, case.loss, dtype=case.dtype)
        self.net.theta[:] = self.net.flatten(problem.W, problem.b)
        self.X, self.Y = problem.X, problem.Y
        self.targets = self.Y.astype(case.dtype)[:, None] if self.Y.ndim == 1 else self.Y
        adam = case.optimizer == "adam"
        optimizer = dj.Adam(self.lr, BETAS, EPS) if adam else dj.SGD(self.lr)
        self.rule = optimizer.rule(self.net.n_params, self.net.dtype)
        self.grad = np.empty_like(self.net.theta)
        self.work = self.net.workspace(case.batch)
        self.order = np.arange(len(self.X))
        self.first = self.X[: case.batch], self.Y[: case.batch]

    def train(self, steps):
        batch, samples = self.case.batch, (self.X, self.targets)
        order, scratch = self.order[: steps * batch], (self.grad, self.work)
        kernels.fit_epoch(self.net.model, *samples, order, batch, self.rule, *scratch)

    def value_and_grad(self):
        return self.net.value_and_grad(*self.first)

    def predict(self):
        return self.net.predict(self.first[0])

    def parameters(self):
        return [*self.net.weights, *self.net.biases]

    def gradient(self):
        value, grad = self.value_and_grad()
        dW, db = self.net.unflatten(grad)
        return value, [*dW, *db]


class NumPy(Library):
    """Straightforward and fast: buffers made once, every operation in place, one flat theta."""

    name, package = "NumPy", "numpy"

    def __init__(self, problem):
        super().__init__(problem)
        case = self.case
        self.theta = np.concatenate([x.ravel() for x in problem.W + problem.b])
        self.grad, self.scratch = np.empty_like(self.theta), np.empty_like(self.theta)
        self.m, self.v = np.zeros_like(self.theta), np.zeros_like(self.theta)
        self.count = 0
        self.W, self.b = _views(self.theta, case.sizes)
        self.dW, self.db = _views(self.grad, case.sizes)
        self.a, self.delta, self.slope = (
            [np.empty((case.batch, n), case.dtype) for n in case.sizes[1:]] for _ in range(3)
        )
        self.X, self.Y = problem.X, problem.Y
        self.scale = np.dtype(case.dtype).type(1 / case.batch)
        self.rows = np.arange(case.batch)

    def forward(self, X):
        """Activations of every layer, into `self.a`; the output layer's before a softmax."""
        below = X
        for k, (W, b, a) in enumerate(zip(self.W, self.b, self.a, strict=True)):
            np.matmul(below, W.T, out=a)
            a += b
            _activate(self.case.activation if k < len(self.W) - 1 else self.case.output, a)
            below = a
        return below

    def loss_and_backward(self, X, Y):
        """The loss; its gradient goes into `self.grad`."""
        out, delta = self.forward(X), self.delta[-1]
        if self.case.loss == "cross_entropy":
            out -= out.max(axis=1, keepdims=True)
            right = out[self.rows, Y]
            np.exp(out, out=delta)
            sums = delta.sum(axis=1, keepdims=True)
            loss = float((np.log(sums[:, 0]) - right).sum()) * self.scale
            delta /= sums
            delta[self.rows, Y] -= 1
        else:
            np.subtract(out, Y, out=delta)
            flat = delta.ravel()
            loss = 0.5 * float(flat @ flat) * self.scale
            _times_slope(self.case.output, out, self.slope[-1], delta)
        delta *= self.scale
        for k in reversed(range(len(self.W))):
            below = self.a[k - 1] if k else X
            np.matmul(self.delta[k].T, below, out=self.dW[k])
            np.add.reduce(self.delta[k], axis=0, out=self.db[k])
            if k:
                np.matmul(self.delta[k], self.W[k], out=self.delta[k - 1])
                _times_slope(self.case.activation, below, self.slope[k - 1], self.delta[k - 1])
        return loss

    def train(self, steps):
        batch = self.case.batch
        update = self._adam if self.case.optimizer == "adam" else self._sgd
        for first in range(0, steps * batch, batch):
            rows = slice(first, first + batch)
            self.loss_and_backward(self.X[rows], self.Y[rows])
            update()

    def _sgd(self):
        self.grad *= self.lr
        self.theta -= self.grad

    def _adam(self):
        self.count += 1
        g, s = self.grad, self.scratch
        self.m *= BETAS[0]
        np.multiply(g, 1 - BETAS[0], out=s)
        self.m += s
        g *= g
        g *= 1 - BETAS[1]
        self.v *= BETAS[1]
        self.v += g
        np.sqrt(self.v, out=s)
        s *= (1 - BETAS[1] ** self.count) ** -0.5
        s += EPS
        np.divide(self.m, s, out=s)
        s *= self.lr / (1 - BETAS[0] ** self.count)
        self.theta -= s

    def value_and_grad(self):
        batch = self.case.batch
        return self.loss_and_backward(self.X[:batch], self.Y[:batch]), self.grad

    def predict(self):
        out = self.forward(self.X[: self.case.batch])
        if self.case.output == "softmax":
            np.exp(out - out.max(axis=1, keepdims=True), out=out)
            out /= out.sum(axis=1, keepdims=True)
        return out

    def parameters(self):
        return self.W + self.b

    def gradient(self):
        value, _ = self.value_and_grad()
        return value, self.dW + self.db


def _views(flat, sizes):
    """Weight matrices and biases as views of one flat vector."""
    shapes = [(n_out, n_in) for n_in, n_out in pairwise(sizes)] + [(n,) for n in sizes[1:]]
    ends = np.cumsum([np.prod(shape) for shape in shapes[:-1]])
    views = [x.reshape(shape) for x, shape in zip(np.split(flat, ends), shapes, strict=True)]
    return views[: len(sizes) - 1], views[len(sizes) - 1 :]


def _activate(name, z):
    """``z = f(z)`` in place; a softmax is left to the loss."""
    if name == "relu":
        np.maximum(z, 0, out=z)
    elif name == "tanh":
        np.tanh(z, out=z)
    elif name == "sigmoid":  # (1 + tanh(z / 2)) / 2: nothing overflows
        z *= 0.5
        np.tanh(z, out=z)
        z *= 0.5
        z += 0.5


def _times_slope(name, a, slope, delta):
    """``delta *= f'(z)`` given a = f(z); `slope` is scratch."""
    if name == "relu":
        delta *= a > 0
    elif name in ("tanh", "sigmoid"):
        np.multiply(a, a, out=slope)
        np.subtract(1 if name == "tanh" else a, slope, out=slope)
        delta *= slope


class PyTorch(Library):
    """Eager: nn.Sequential and torch.optim; for Adam the fused one, for SGD that gains nothing."""

    name, package = "PyTorch", "torch"

    def __init__(self, problem):
        super().__init__(problem)
        import torch

        case = self.case
        self.torch = torch
        self.model = Deltajit(problem).net.to_torch()
        if case.output == "softmax":
            self.model = self.model[:-1]
        linears = [layer for layer in self.model if isinstance(layer, torch.nn.Linear)]
        self.tensors = [layer.weight for layer in linears] + [layer.bias for layer in linears]
        if case.optimizer == "adam":
            self.optimizer = torch.optim.Adam(self.tensors, self.lr, BETAS, EPS, fused=True)
        else:
            self.optimizer = torch.optim.SGD(self.tensors, self.lr)
        self.X = torch.from_numpy(problem.X).split(case.batch)
        self.Y = torch.from_numpy(problem.Y).split(case.batch)

    def loss(self, out, Y):
        """Of a batch of outputs, before a softmax."""
        functional = self.torch.nn.functional
        if self.case.loss == "cross_entropy":
            return functional.cross_entropy(out, Y)
        return functional.mse_loss(out, Y) * (self.case.sizes[-1] / 2)  # a mean over outputs too

    def train(self, steps):
        for i in range(steps):
            self.value_and_grad(i)
            self.optimizer.step()

    def value_and_grad(self, batch=0):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.model(self.X[batch]), self.Y[batch])
        loss.backward()
        return loss

    def predict(self):
        with self.torch.inference_mode():
            out = self.model(self.X[0])
            return out.softmax(dim=1) if self.case.output == "softmax" else out

    def parameters(self):
        return [x.detach().numpy() for x in self.tensors]

    def gradient(self):
        value = self.value_and_grad()
        return value.item(), [x.grad.numpy() for x in self.tensors]


class Jax(Library):
    """The whole loop inside one jitted ``lax.scan``, over batches laid out beforehand."""

    name, package = "JAX scan", "jax"

    def __init__(self, problem):
        super().__init__(problem)
        import jax

        jax.config.update("jax_enable_x64", True)  # for the rows in float64; others stay float32
        case, self.jax = self.case, jax
        layers = zip(problem.W, problem.b, strict=True)
        self.params = [(jax.numpy.asarray(W.T.copy()), jax.numpy.asarray(b)) for W, b in layers]
        zeros = jax.tree.map(jax.numpy.zeros_like, self.params)
        adam = case.optimizer == "adam"
        count = jax.numpy.zeros((), case.dtype)
        self.state = (self.params, zeros, zeros, count) if adam else self.params
        self.X = problem.X.reshape(-1, case.batch, case.sizes[0])
        self.Y = problem.Y.reshape(-1, case.batch, *problem.Y.shape[1:])
        if case.loss == "cross_entropy":
            self.Y = self.Y.astype(np.int32)
        self.first = jax.numpy.asarray(self.X[0]), jax.numpy.asarray(self.Y[0])
        self.on_device = {}
        self.step = self._adam if adam else self._sgd
        self.epoch = jax.jit(lambda state, data: jax.lax.scan(self.step, state, data))
        self.grad_call = jax.jit(jax.value_and_grad(self.loss))
        self.predict_call = jax.jit(self._outputs)

    def forward(self, params, X):
        """Outputs, before a softmax."""
        nn, case = self.jax.nn, self.case
        activations = {"tanh": self.jax.numpy.tanh, "relu": nn.relu, "sigmoid": nn.sigmoid}
        for W, b in params[:-1]:
            X = activations[case.activation](X @ W + b)
        out = X @ params[-1][0] + params[-1][1]
        return nn.sigmoid(out) if case.output == "sigmoid" else out

    def _outputs(self, params, X):
        out = self.forward(params, X)
        return self.jax.nn.softmax(out) if self.case.output == "softmax" else out

    def loss(self, params, X, Y):
        """Mean over a batch."""
        out, total = self.forward(params, X), self.jax.numpy.sum
        if self.case.loss == "cross_entropy":
            hot = self.jax.nn.one_hot(Y, out.shape[1], dtype=out.dtype)
            return -total(hot * self.jax.nn.log_softmax(out)) / len(X)
        return 0.5 * total((out - Y) ** 2) / len(X)

    def _sgd(self, params, batch):
        value, grads = self.jax.value_and_grad(self.loss)(params, *batch)
        return self.jax.tree.map(lambda p, g: p - self.lr * g, params, grads), value

    def _adam(self, state, batch):
        params, m, v, count = state
        value, grads = self.jax.value_and_grad(self.loss)(params, *batch)
        tree, sqrt, (beta1, beta2) = self.jax.tree.map, self.jax.numpy.sqrt, BETAS
        count = count + 1
        m = tree(lambda m, g: beta1 * m + (1 - beta1) * g, m, grads)
        v = tree(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, grads)
        rate, unbias = self.lr / (1 - beta1**count), 1 / sqrt(1 - beta2**count)
        params = tree(lambda p, m, v: p - rate * m / (sqrt(v) * unbias + EPS), params, m, v)
        return (params, m, v, count), value

    def train(self, steps):
        if steps not in self.on_device:
            self.on_device = {steps: self.jax.device_put((self.X[:steps], self.Y[:steps]))}
        self.state, values = self.epoch(self.state, self.on_device[steps])
        values.block_until_ready()

    def value_and_grad(self):
        return self.jax.block_until_ready(self.grad_call(self.params, *self.first))

    def predict(self):
        return self.predict_call(self.params, self.first[0]).block_until_ready()

    def parameters(self):
        params = self.state[0] if self.case.optimizer == "adam" else self.state
        return self._arrays(params)

    def gradient(self):
        value, grads = self.value_and_grad()
        return float(value), self._arrays(grads)

    def _arrays(self, params):
        return [np.asarray(W).T for W, _ in params] + [np.asarray(b) for _, b in params]


LIBRARIES = [Deltajit, NumPy, PyTorch, Jax]


def available():
    """The installed libraries; says which are not."""
    found = [library for library in LIBRARIES if importlib.util.find_spec(library.package)]
    for library in set(LIBRARIES) - set(found):
        print(f"{library.package} is not installed and is left out")
    return found
