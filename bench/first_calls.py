"""What `bench.start` times, in a process of its own each: ``python -P first_calls.py NAME``.

Each function imports what it needs, since that is part of what a first call costs, and prints CPU
seconds. All of it works with older sources of deltajit too.
"""

import sys
import time
from itertools import pairwise

SIZES, BATCH = (64, 128, 10), 64


def data(dtype="float32"):
    """Samples X (BATCH, 64), and labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.normal(size=(BATCH, SIZES[0])).astype(dtype), rng.integers(SIZES[-1], size=BATCH)


def network(dtype="float32"):
    """The network of all rows but the circuit's."""
    import deltajit as dj

    return dj.Network(SIZES, "relu", "softmax", dtype=dtype)


def gradient():
    """The first gradient, since the process began."""
    network().value_and_grad(*data())
    print(time.process_time())


def features():
    """Twelve features in turn, since the process began."""
    import deltajit as dj

    net, (X, labels) = network(), data()
    for first in (net.loss, net.value_and_grad, net.per_sample_grads):
        first(X, labels)
    net.predict(X)
    net.fit(X, labels, epochs=1, optimizer=dj.SGD(0.01), progress=False)
    net.fit(X, labels, epochs=1, optimizer=dj.Adam(), progress=False)
    net.hvp(X, labels, net.theta)
    net.jacobian(X)
    nets = dj.Ensemble(SIZES, 4, "relu", "softmax")
    nets.fit(X, labels, epochs=1, progress=False)
    dj.Circuit(lambda x, y: (x + y) * x, 2).value_and_grad([1.0, 2.0])
    net, (X, labels) = network("float64"), data("float64")
    net.value_and_grad(X, labels)
    net.fit(X, labels, epochs=1, progress=False)
    print(time.process_time())


def jitted():
    """The first call of a user's function: `users.step`, which `bench.start` writes."""
    import numpy as np
    import users

    net, (X, labels) = network(), data()
    Y, grad = labels[:, None].astype(X.dtype), np.empty(net.n_params, X.dtype)
    model, work = net.model, net.workspace(BATCH)
    start = time.process_time()
    users.step(model, X, Y, grad, work)
    print(time.process_time() - start)


def imported():
    """The import alone."""
    import deltajit  # noqa: F401

    print(time.process_time())


def sklearn():
    """The first fit of scikit-learn, of one epoch."""
    from sklearn.neural_network import MLPClassifier

    MLPClassifier(SIZES[1:-1], max_iter=1).fit(*data())
    print(time.process_time())


def jax():
    """The first gradient of JAX."""
    import jax
    import numpy as np

    def loss(layers, X, labels):
        (W, b), (V, c) = layers
        logits = jax.nn.log_softmax(jax.nn.relu(X @ W + b) @ V + c)
        return -logits[np.arange(BATCH), labels].mean()

    layers = [(np.ones(pair, "f4"), np.ones(pair[1], "f4")) for pair in pairwise(SIZES)]
    jax.block_until_ready(jax.jit(jax.grad(loss))(layers, *data()))
    print(time.process_time())


def torch():
    """The first gradient of PyTorch."""
    import torch

    n_in, hidden, n_out = SIZES
    layers = torch.nn.Linear(n_in, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, n_out)
    X, labels = map(torch.from_numpy, data())
    torch.nn.functional.cross_entropy(torch.nn.Sequential(*layers)(X), labels).backward()
    print(time.process_time())


if __name__ == "__main__":
    globals()[sys.argv[1]]()
