"""``python -m bench.ensemble``: 1,000 networks 4-32-32-1, one step of descent each, in one call.

Beside JAX (vmap over the members, all steps in one jitted lax.scan) and PyTorch (torch.func: vmap
of grad), each on one core, from the same parameters; results are compared first.
"""

from bench import limits, store

SIZES, MEMBERS, BATCH, STEPS, LR = (4, 32, 32, 1), 1000, 32, 16, 1e-2
SECONDS, CHUNK_SECONDS = 8.0, 0.05


class Deltajit:
    """One call into `kernels.mlp.stacked` for all steps."""

    name = "deltajit"

    def __init__(self, nets, X, Y):
        import numpy as np

        import deltajit as dj

        self.nets, self.X, self.Y = nets, X, Y
        rule = dj.SGD(LR).rule(nets.theta.shape[1], nets.theta.dtype)
        n = len(nets)
        self.rule = rule._replace(
            state=np.zeros((n, 0), nets.theta.dtype), count=np.zeros(n, np.int64)
        )
        self.order = np.tile(np.arange(X.shape[-2]), (n, 1))
        self.alive, self.totals = np.ones(n, bool), np.empty((n, 2))
        self.work = nets._work(BATCH, gradient=True)

    def train(self, steps):
        from deltajit.kernels.mlp import stacked

        order = self.order[:, : steps * BATCH].copy()
        stacked.fit_epoch(
            self.nets._model, (self.X, self.Y, None), order, BATCH, self.rule, self.alive,
            self.totals, self.work,
        )  # fmt: skip

    def parameters(self):
        return [[*net.weights, *net.biases] for net in self.nets]


class Jax:
    """Members by vmap; the loop over steps is a lax.scan."""

    name = "JAX vmap"

    def __init__(self, nets, X, Y):
        import jax
        import jax.numpy as jnp
        import numpy as np

        layers = len(SIZES) - 1
        self.W = [jnp.asarray(np.stack([net.weights[k] for net in nets])) for k in range(layers)]
        self.b = [jnp.asarray(np.stack([net.biases[k] for net in nets])) for k in range(layers)]
        axis = X.ndim - 2  # where the samples are cut into batches
        shape = (*X.shape[:axis], STEPS, BATCH)
        self.X = jnp.moveaxis(jnp.asarray(X).reshape(*shape, -1), axis, 0)
        self.Y = jnp.moveaxis(jnp.asarray(Y).reshape(*shape, -1), axis, 0)
        own = 0 if axis else None

        def loss(parameters, x, y):
            W, b = parameters
            for k in range(layers):
                x = x @ W[k].T + b[k]
                x = jnp.tanh(x) if k < layers - 1 else x
            return 0.5 * ((x - y) ** 2).sum() / len(y)

        gradient = jax.vmap(jax.grad(loss), in_axes=((0, 0), own, own))

        def step(parameters, batch):
            moved = jax.tree.map(lambda p, g: p - LR * g, parameters, gradient(parameters, *batch))
            return moved, None

        self.run = jax.jit(lambda parameters, X, Y: jax.lax.scan(step, parameters, (X, Y))[0])

    def train(self, steps):
        import jax

        parameters = self.run((self.W, self.b), self.X[:steps], self.Y[:steps])
        self.W, self.b = jax.block_until_ready(parameters)

    def parameters(self):
        return [[x[i] for x in (*self.W, *self.b)] for i in range(MEMBERS)]


class Torch:
    """torch.func: vmap over members of grad; steps in Python."""

    name = "torch.func"

    def __init__(self, nets, X, Y):
        import numpy as np
        import torch

        layers = len(SIZES) - 1
        self.theta = [
            torch.tensor(np.stack([getattr(net, which)[k] for net in nets]))
            for which in ("weights", "biases")
            for k in range(layers)
        ]
        self.X, self.Y, own = torch.tensor(X), torch.tensor(Y), 0 if X.ndim == 3 else None

        def loss(theta, x, y):
            for k in range(layers):
                x = x @ theta[k].T + theta[layers + k]
                x = torch.tanh(x) if k < layers - 1 else x
            return 0.5 * ((x - y) ** 2).sum() / len(y)

        self.gradient = torch.func.vmap(torch.func.grad(loss), in_dims=(0, own, own))

    def train(self, steps):
        for i in range(steps):
            some = (..., slice(i * BATCH, (i + 1) * BATCH), slice(None))
            grads = self.gradient(self.theta, self.X[some], self.Y[some])
            for p, g in zip(self.theta, grads, strict=True):
                p -= LR * g

    def parameters(self):
        return [[x[i] for x in self.theta] for i in range(MEMBERS)]


def run():
    """Print a table: us a step of all members, and ratios."""
    import numpy as np

    import deltajit as dj
    from bench import machine
    from bench.clock import Contestant, medians

    results = {"machine": machine.describe(), "us a step": {}}
    print(f"{MEMBERS} networks {'-'.join(map(str, SIZES))} tanh, batch {BATCH}, SGD, float32")
    for what, axis in (("the same data for all", ()), ("data of its own each", (MEMBERS,))):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(*axis, STEPS * BATCH, SIZES[0])).astype(np.float32)
        Y = np.tanh(X.sum(axis=-1, keepdims=True))
        subjects = [
            kind(dj.Ensemble(SIZES, MEMBERS, threads=1), X, Y) for kind in (Deltajit, Jax, Torch)
        ]
        for subject in subjects:
            subject.train(STEPS)
        expected = subjects[0].parameters()
        for subject in subjects[1:]:
            for mine, other in zip(expected, subject.parameters(), strict=True):
                for x, y in zip(mine, other, strict=True):
                    np.testing.assert_allclose(x, np.asarray(y), rtol=1e-3, atol=1e-5)
        times = medians(
            [Contestant(s.name, lambda _, s=s: s.train(STEPS), 1) for s in subjects],
            SECONDS,
            CHUNK_SECONDS,
        )
        print(f"  {what}: us a step of all members, and over deltajit's")
        results["us a step"][what] = {name: 1e6 * t / STEPS for name, t in times.items()}
        for name, us in results["us a step"][what].items():
            print(f"    {name:12}{us:10.0f}{us / results['us a step'][what]['deltajit']:8.2f}x")
    print(store.save("ensemble", results))


if __name__ == "__main__":
    limits.hold(1)
    run()
