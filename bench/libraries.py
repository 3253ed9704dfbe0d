"""One class for each library, all with the same methods, each in that library's usual way.

    train(steps)       do `steps` training steps on the first so many batches; losses are computed
    value_and_grad()   loss and gradient of the first batch, in the library's own form
    predict()          outputs for the first batch
    parameters()       every weight matrix (n_out, n_in), then every bias, as arrays
    gradient()         the same of `value_and_grad`: (loss, arrays)

All of them hold the data ready in the library's own arrays before anything is timed.
"""

import ctypes
import functools
from itertools import pairwise

import numpy as np

from bench import native
from bench.worker import Kind

BETAS, EPS = (0.9, 0.999), 1e-8


class Library(Kind):
    """What the libraries share."""

    only_trains = False

    def __init__(self, problem):
        self.case, self.lr, self.most = problem.case, problem.lr, problem.batches


class Deltajit(Library):
    """Steps: one call of `kernels.fit_epoch`. Calls: the methods of `Network`."""

    name = package = "deltajit"

    def __init__(self, problem):
        super().__init__(problem)
        import deltajit as dj
        from deltajit import kernels

        case, self.fit_epoch = self.case, kernels.fit_epoch
        self.net = dj.Network(case.sizes, case.activation, case.output, case.loss)
        self.net.theta[:] = self.net.flatten(problem.W, problem.b)
        self.X, self.Y = problem.X, problem.Y
        self.targets = self.Y.astype("f4")[:, None] if self.Y.ndim == 1 else self.Y
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
        self.fit_epoch(self.net.model, *samples, order, batch, self.rule, *scratch)

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


class Specialized(Deltajit):
    """Deltajit's kernels compiled for the sizes of a tiny network: no peer, but a column."""

    name = "specialized"

    def __init__(self, problem):
        super().__init__(problem)
        self.net.specialize(self.case.batch)

    @classmethod
    def takes(cls, row):
        return max(row.sizes) * row.batch <= 1024


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
            [np.empty((case.batch, n), "f4") for n in case.sizes[1:]] for _ in range(3)
        )
        self.X, self.Y = problem.X, problem.Y
        self.scale = np.float32(1 / case.batch)
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

    name, package = "JAX", "jax"

    def __init__(self, problem):
        super().__init__(problem)
        import jax

        case, self.jax = self.case, jax
        layers = zip(problem.W, problem.b, strict=True)
        self.params = [(jax.numpy.asarray(W.T.copy()), jax.numpy.asarray(b)) for W, b in layers]
        adam = case.optimizer == "adam"
        self.state = params = jax.tree.map(jax.numpy.array, self.params)  # to be donated: copies
        if adam:
            m, v = (jax.tree.map(jax.numpy.zeros_like, params) for _ in range(2))
            self.state = params, m, v, jax.numpy.zeros((), "f4")
        self.X = problem.X.reshape(-1, case.batch, case.sizes[0])
        self.Y = problem.Y.reshape(-1, case.batch, *problem.Y.shape[1:])
        if case.loss == "cross_entropy":
            self.Y = self.Y.astype(np.int32)
        self.first = jax.numpy.asarray(self.X[0]), jax.numpy.asarray(self.Y[0])
        self.on_device = {}
        self.step = self._adam if adam else self._sgd
        steps = functools.partial(jax.lax.scan, self.step)
        self.epoch = jax.jit(steps, donate_argnums=0)
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


class JaxBeforeThunks(Jax):
    """JAX as it was when XLA still compiled a loop over steps into one function."""

    name, environment = "JAX 0.4.31", ".peers/jax-0.4.31"
    # It knows no --xla_cpu_max_isa, but prefers vectors of 256 bits wherever it runs.
    variables = (("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false"),)


class TensorFlow(Library):
    """The whole loop inside one tf.function with ``jit_compile=True``."""

    name, package, environment = "TensorFlow", "tensorflow", ".peers/tensorflow"

    def __init__(self, problem):
        super().__init__(problem)
        import tensorflow as tf

        case, self.tf = self.case, tf
        self.variables = [tf.Variable(x) for x in [*(W.T for W in problem.W), *problem.b]]
        self.m, self.v = ([tf.Variable(tf.zeros_like(x)) for x in self.variables] for _ in range(2))
        self.count, self.on_device = tf.Variable(0.0), {}
        self.X = problem.X.reshape(-1, case.batch, case.sizes[0])
        self.Y = problem.Y.reshape(-1, case.batch, *problem.Y.shape[1:])
        self.update = self._adam if case.optimizer == "adam" else self._sgd
        self.epoch = tf.function(self._epoch, jit_compile=True)

    def forward(self, X):
        """Outputs, before a softmax."""
        nn, depth = self.tf.nn, len(self.variables) // 2
        activations = {"tanh": nn.tanh, "relu": nn.relu, "sigmoid": nn.sigmoid}
        for k, (W, b) in enumerate(zip(self.variables, self.variables[depth:], strict=False)):
            X = X @ W + b
            kind = self.case.activation if k < depth - 1 else self.case.output
            X = activations.get(kind, self.tf.identity)(X)
        return X

    def value_and_grad(self, X, Y):
        with self.tf.GradientTape() as tape:
            out, total = self.forward(X), self.tf.reduce_sum
            if self.case.loss == "cross_entropy":
                each = self.tf.nn.sparse_softmax_cross_entropy_with_logits(Y, out)
                value = total(each) / self.case.batch
            else:
                value = 0.5 * total((out - Y) ** 2) / self.case.batch
        return value, tape.gradient(value, self.variables)

    def _epoch(self, X, Y):
        value = self.tf.constant(0.0)
        for i in self.tf.range(len(X)):  # AutoGraph makes it a loop of XLA's
            value, grads = self.value_and_grad(X[i], Y[i])
            self.update(grads)
        return value

    def _sgd(self, grads):
        for x, g in zip(self.variables, grads, strict=True):
            x.assign_sub(self.lr * g)

    def _adam(self, grads):
        count, (beta1, beta2) = self.count.assign_add(1.0), BETAS
        rate, unbias = self.lr / (1 - beta1**count), 1 / self.tf.sqrt(1 - beta2**count)
        for x, g, m, v in zip(self.variables, grads, self.m, self.v, strict=True):
            m.assign(beta1 * m + (1 - beta1) * g)
            v.assign(beta2 * v + (1 - beta2) * g * g)
            x.assign_sub(rate * m / (self.tf.sqrt(v) * unbias + EPS))

    def train(self, steps):
        if steps not in self.on_device:
            self.on_device = {steps: [self.tf.constant(x[:steps]) for x in (self.X, self.Y)]}
        self.epoch(*self.on_device[steps]).numpy()

    def predict(self):
        out = self.forward(self.X[0])
        return self.tf.nn.softmax(out) if self.case.output == "softmax" else out

    def parameters(self):
        return self._arrays(self.variables)

    def gradient(self):
        value, grads = self.value_and_grad(self.X[0], self.Y[0])
        return float(value), self._arrays(grads)

    def _arrays(self, parts):
        return [x.numpy().T for x in parts]


class Libxsmm(Library):
    """Our driver in C on LIBXSMM's kernels: `libxsmm.c`, in blocked layouts."""

    name, only_trains = "LIBXSMM", True
    KINDS = ("identity", "tanh", "relu", "sigmoid", "softmax")

    def __init__(self, problem):
        super().__init__(problem)
        case, self.lib = self.case, native.load("libxsmm", native.LIBXSMM)
        self.lib.train.restype = ctypes.c_float
        kinds = [*[case.activation] * (len(case.sizes) - 2), case.output]
        self.shapes = [W.shape for W in problem.W]
        sizes = [case.sizes[0], *map(_padded, case.sizes[1:])]
        self.blocks = [_block(n) for n in sizes]
        self.rows = _block(case.batch)
        codes = [self.KINDS.index(kind) for kind in kinds]
        shape = len(codes), *map(_ints, (sizes, self.blocks, codes)), case.batch, self.rows
        self.net = native.pointer(self.lib.make, *shape)
        layers = zip(problem.W, problem.b, pairwise(sizes), pairwise(self.blocks), strict=True)
        for k, (W, b, (n_in, n_out), (bc, bk)) in enumerate(layers):
            whole = np.zeros((n_out, n_in), "f4")
            whole[: W.shape[0], : W.shape[1]] = W
            self._of("weights", k)[:] = whole.reshape(-1, bk, n_in // bc, bc).transpose(0, 2, 3, 1)
            # units that only fill a block give 0: their sigmoid of -80
            self._of("biases", k)[:] = -80 if kinds[k] == "sigmoid" else 0
            self._of("biases", k)[: len(b)] = b
        self.lib.prepare(self.net)
        self.X = self._blocked(problem.X, self.blocks[0])
        labels, spare = problem.Y.ndim == 1, sizes[-1] - case.sizes[-1]
        self.Y = problem.Y.astype("f4") if labels else np.pad(problem.Y, ((0, 0), (0, spare)))
        self.Y = self.Y if labels else self._blocked(self.Y, self.blocks[-1])

    @classmethod
    def missing(cls):
        return native.missing("libxsmm.h", "libxsmm-dev")

    @classmethod
    def takes(cls, case):
        return case.optimizer == "sgd"

    def _blocked(self, x, columns):
        """Return samples in blocks of rows and columns."""
        blocks = x.reshape(-1, self.rows, x.shape[1] // columns, columns)
        return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3))

    def _of(self, name, k):
        """Return the weights (K, C, bc, bk) or biases of a layer, where the driver has them."""
        bc, bk = self.blocks[k : k + 2]
        K, C = -(-self.shapes[k][0] // bk), -(-self.shapes[k][1] // bc)
        shape = (K, C, bc, bk) if name == "weights" else (K * bk,)
        address = native.pointer(getattr(self.lib, name), self.net, k)
        floats = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(floats, shape)

    def train(self, steps):
        data = native.address(self.X), native.address(self.Y), self.case.sizes[-1], steps
        self.lib.train(self.net, *data, ctypes.c_float(self.lr))

    def parameters(self):
        W = [self._of("weights", k).transpose(0, 3, 1, 2) for k in range(len(self.shapes))]
        W = [x.reshape(x.shape[0] * x.shape[1], -1) for x in W]
        whole = [x[:n_out, :n_in] for x, (n_out, n_in) in zip(W, self.shapes, strict=True)]
        return whole + [self._of("biases", k)[:n] for k, (n, _) in enumerate(self.shapes)]


def _ints(values):
    return (ctypes.c_int * len(values))(*values)


def _block(n):
    """Return the largest divisor of n that is at most 64."""
    return max(d for d in range(1, 65) if n % d == 0)


def _padded(n):
    """Return n, or what whole vectors have room for where one block is enough."""
    return n if n > 64 else 8 if n <= 8 else -(-n // 16) * 16


class Fann(Library):
    """FANN, one sample at a time: the loop over `fann_train` is in C, too."""

    name, only_trains = "FANN", True

    def __init__(self, problem):
        super().__init__(problem)
        self.lib = lib = native.load("fann", ("floatfann",))
        sizes, one = self.case.sizes, ctypes.c_float(1)
        self.net = net = native.pointer(lib.fann_create_standard_array, len(sizes), _ints(sizes))
        lib.fann_set_activation_function_hidden(net, 5)  # FANN_SIGMOID_SYMMETRIC: tanh
        lib.fann_set_activation_function_output(net, 0)  # FANN_LINEAR
        lib.fann_set_activation_steepness_hidden(net, one)
        lib.fann_set_activation_steepness_output(net, one)
        lib.fann_set_training_algorithm(net, 0)  # FANN_TRAIN_INCREMENTAL
        lib.fann_set_train_error_function(net, 0)  # FANN_ERRORFUNC_LINEAR
        lib.fann_set_learning_rate(net, ctypes.c_float(self.lr))
        self.X, self.Y = problem.X, problem.Y
        floats = ctypes.cast(native.pointer(lib.weights, net), ctypes.POINTER(ctypes.c_float))
        theta = np.ctypeslib.as_array(floats, (self.case.n_params,))
        ends = np.cumsum([(n_in + 1) * n_out for n_in, n_out in pairwise(sizes)])[:-1]
        parts = zip(np.split(theta, ends), sizes[1:], strict=True)
        self.layers = [part.reshape(n_out, -1) for part, n_out in parts]  # a bias ends its row
        for layer, W, b in zip(self.layers, problem.W, problem.b, strict=True):
            layer[:] = np.column_stack([W, b])

    @classmethod
    def missing(cls):
        return native.missing("floatfann.h", "libfann-dev")

    @classmethod
    def takes(cls, case):
        return case.batch == 1

    def train(self, steps):
        self.lib.train(self.net, native.address(self.X), native.address(self.Y), steps)

    def parameters(self):
        return [layer[:, :-1] for layer in self.layers] + [layer[:, -1] for layer in self.layers]


LIBRARIES = [Deltajit, Specialized, Jax, JaxBeforeThunks, Libxsmm, Fann, PyTorch, NumPy]


def available(libraries=LIBRARIES):
    """Return the libraries that can run here; say which can't."""
    lacks = {library: library.missing() for library in libraries}
    for library, what in lacks.items():
        if what:
            print(f"{library.name} is left out: {what} is missing")
    return [library for library in libraries if not lacks[library]]
