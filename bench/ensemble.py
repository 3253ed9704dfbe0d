"""``python -m bench.ensemble``: 1,000 networks 4-32-32-1, one step of descent each, in one call.

Beside JAX (vmap over the members, all steps in one jitted lax.scan) and PyTorch (torch.func: vmap
of grad), each on one core, from the same parameters; results are compared first. A subject is
``(train, parameters)``: do all steps, and return every W, then every b, of all members.
"""

from bench import store

SIZES, MEMBERS, BATCH, STEPS, LR = (4, 32, 32, 1), 1000, 32, 16, 1e-2
LAYERS, SECONDS, CHUNK_SECONDS = len(SIZES) - 1, 8.0, 0.05


def deltajit(nets, X, Y):
    """One call into `kernels.mlp.stacked` for all steps."""
    import numpy as np
    from deltajit.kernels.mlp import stacked

    import deltajit as dj
    from deltajit.training import members

    order = np.tile(np.arange(STEPS * BATCH), (MEMBERS, 1))
    rules = stacked.Rules(*members.rule_of(dj.SGD(LR), nets.theta))
    alive, totals = np.ones(MEMBERS, bool), np.empty((MEMBERS, 2))
    work = np.empty((1, nets._work(BATCH).shape[1] + nets.theta.shape[1]), nets.theta.dtype)
    samples = stacked.Samples(X, Y, None)

    def train():
        stacked.fit_epoch(nets._members, samples, order, BATCH, rules, alive, None, totals, work)

    return train, lambda: stack(nets)


def jax(nets, X, Y):
    """Members by vmap; the loop over steps is a lax.scan."""
    import jax
    import jax.numpy as jnp

    theta = [jnp.asarray(x) for x in stack(nets)]
    axis = X.ndim - 2  # where the samples are cut into batches
    own = 0 if axis else None
    batches = [
        jnp.moveaxis(jnp.asarray(x).reshape(*x.shape[:axis], STEPS, BATCH, -1), axis, 0)
        for x in (X, Y)
    ]
    gradient = jax.vmap(jax.grad(loss(jnp.tanh)), in_axes=(0, own, own))

    def step(theta, batch):
        return jax.tree.map(lambda p, g: p - LR * g, theta, gradient(theta, *batch)), None

    run = jax.jit(lambda theta, batches: jax.lax.scan(step, theta, batches)[0])

    def train():
        theta[:] = jax.block_until_ready(run(theta, batches))

    return train, lambda: theta


def torch(nets, X, Y):
    """torch.func: vmap over members of grad; steps in Python."""
    import torch

    theta = [torch.tensor(x) for x in stack(nets)]
    X, Y, own = torch.tensor(X), torch.tensor(Y), 0 if X.ndim == 3 else None
    gradient = torch.func.vmap(torch.func.grad(loss(torch.tanh)), in_dims=(0, own, own))

    def train():
        for i in range(STEPS):
            some = (..., slice(i * BATCH, (i + 1) * BATCH), slice(None))
            for p, g in zip(theta, gradient(theta, X[some], Y[some]), strict=True):
                p -= LR * g

    return train, lambda: theta


SUBJECTS = {"deltajit": deltajit, "JAX vmap": jax, "torch.func": torch}


def loss(tanh):
    """Make the loss of one member, by a library's tanh."""

    def of(theta, x, y):
        for k in range(LAYERS):
            x = x @ theta[k].T + theta[LAYERS + k]
            x = tanh(x) if k < LAYERS - 1 else x
        return 0.5 * ((x - y) ** 2).sum() / len(y)

    return of


def stack(nets):
    """Return every W (MEMBERS, n_out, n_in), then every b."""
    import numpy as np

    views = ("weights", "biases")
    return [np.stack([getattr(net, v)[k] for net in nets]) for v in views for k in range(LAYERS)]


def measure(X, Y):
    """Compare results, then return {name: us a step of all members}."""
    import numpy as np

    import deltajit as dj
    from bench.clock import Contestant, medians

    made = {n: f(dj.Ensemble(SIZES, MEMBERS, threads=1), X, Y) for n, f in SUBJECTS.items()}
    for train, _ in made.values():
        train()
    for _, parameters in made.values():
        for own, other in zip(made["deltajit"][1](), parameters(), strict=True):
            np.testing.assert_allclose(own, np.asarray(other), rtol=1e-3, atol=1e-5)
    subjects = [Contestant(name, lambda _, f=f: f(), 1) for name, (f, _) in made.items()]
    times = medians(subjects, SECONDS, CHUNK_SECONDS)
    return {name: 1e6 * seconds / STEPS for name, seconds in times.items()}


def run():
    """Print a table: us a step of all members, and ratios."""
    import numpy as np

    results = {}
    print(f"{MEMBERS} networks {'-'.join(map(str, SIZES))} tanh, batch {BATCH}, SGD, float32")
    for what, axis in (("the same data for all", ()), ("data of its own each", (MEMBERS,))):
        X = np.random.default_rng(0).normal(size=(*axis, STEPS * BATCH, SIZES[0])).astype("f4")
        found = results[what] = measure(X, np.tanh(X.sum(axis=-1, keepdims=True)))
        print(f"  {what}: us a step of all members, and over deltajit's")
        for name, us in found.items():
            print(f"    {name:12}{us:10.0f}{us / found['deltajit']:8.2f}x")
    return {"us a step": results}


if __name__ == "__main__":
    store.run("ensemble", run)
