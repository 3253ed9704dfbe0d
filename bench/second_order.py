"""``python -m bench.second_order``: loss against time, of GaussNewtonCG and KFAC beside others.

Each optimizer trains the same network on the same samples for so many CPU seconds of one core; the
loss of all samples is taken in between, off the clock. Adam takes minibatches of 64 at the best of
three learning rates, which fall to 0 along half a cosine; the others take all samples.
"""

import time

from bench import store

SECONDS, GROWTH = 10.0, 1.1  # of a run; time between two losses grows likewise
RATES, BATCH = (1e-3, 3e-3, 1e-2), 64
MARKS = (1.0, 10.0)  # seconds of the table


def curve():
    """Five waves of a sine, without noise, in float64."""
    import numpy as np

    import deltajit as dj

    X = np.linspace(-1, 1, 500)[:, None]
    return dj.Network([1, 32, 32, 1], "tanh", dtype="float64", rng=0, threads=1), X, np.sin(15 * X)


def surface():
    """A smooth function of four numbers, without noise, in float64."""
    import numpy as np

    import deltajit as dj

    X = np.random.default_rng(0).uniform(-1, 1, (5000, 4))
    Y = np.sin(4 * X[:, 0] * X[:, 1]) + X[:, 2] ** 2 * np.cos(3 * X[:, 3])
    return dj.Network([4, 32, 32, 1], "tanh", dtype="float64", rng=0, threads=1), X, Y[:, None]


def autoencoder():
    """Images of digits through 8 units."""
    from sklearn.datasets import load_digits

    import deltajit as dj

    X = load_digits().data / 16
    sizes = [64, 48, 24, 8, 24, 48, 64]
    net = dj.Network(sizes, "tanh", "sigmoid", "binary_cross_entropy", rng=0, threads=1)
    return net, X, X


PROBLEMS = {"curve": curve, "surface": surface, "autoencoder": autoencoder}


class Clock:
    """Callback that takes the loss from time to time, and ends the fit."""

    def __init__(self, X, Y):
        self.X, self.Y, self.spent, self.seconds, self.losses = X, Y, 0.0, [], []

    def on_fit_begin(self, state):
        self.start = time.process_time()

    def on_epoch_end(self, state):
        self.spent += time.process_time() - self.start
        over = self.spent >= SECONDS
        if over or not self.seconds or self.spent >= GROWTH * self.seconds[-1]:
            self.seconds.append(self.spent)
            self.losses.append(state.net.loss(self.X, self.Y))
        if over:
            state.stop()
        self.start = time.process_time()


def train(problem, optimizer, batch_size=None, **options):
    """Train for SECONDS; return {"seconds", "loss"}, lists."""
    net, X, Y = PROBLEMS[problem]()
    X, Y = X.astype(net.dtype), Y.astype(net.dtype)
    start = net.theta.copy()
    fit = dict(batch_size=batch_size or len(X), optimizer=optimizer, progress=False)
    net.fit(X, Y, 2, **fit)  # compiles
    begin = time.process_time()
    net.fit(X, Y, 20, **fit)
    a_second = 20 / (time.process_time() - begin)
    net.theta, clock = start, Clock(X, Y)
    epochs = int(SECONDS * a_second) if "schedule" in options else 10**6
    net.fit(X, Y, epochs, callbacks=[clock], rng=0, **fit, **options)
    return {"seconds": clock.seconds, "loss": clock.losses}


def curves(problem):
    """{optimizer: its curve}."""
    import deltajit as dj

    decay = dj.schedules.CosineDecay()
    adam = [train(problem, dj.Adam(lr), BATCH, schedule=decay) for lr in RATES]
    others = {type(x).__name__: x for x in (dj.LBFGS(), dj.GaussNewtonCG(), dj.KFAC())}
    best = min(adam, key=lambda each: each["loss"][-1])
    return {"Adam": best} | {name: train(problem, x) for name, x in others.items()}


def run():
    """Print the table of losses."""
    found = {name: curves(name) for name in PROBLEMS}
    losses = {
        problem: {name: [after(one, t) for t in MARKS] for name, one in each.items()}
        for problem, each in found.items()
    }
    print(table({"losses": losses}))
    return {"losses": losses, "curves": found}


def after(one, seconds):
    """Loss that a curve had after so many seconds; its last one if it ended earlier."""
    done = [loss for at, loss in zip(one["seconds"], one["loss"], strict=True) if at <= seconds]
    return done[-1] if done else float("nan")


def table(results):
    """Make the table of the documentation."""
    names = list(next(iter(results["losses"].values())))
    heads = [f"loss after {' and '.join(f'{t:g}' for t in MARKS)} s", *names]
    rows = [heads, ["---", *(["---:"] * len(names))]]
    for problem, found in results["losses"].items():
        rows.append([problem, *(", ".join(f"{x:.3g}" for x in found[name]) for name in names)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def picture(results, path):
    """Draw loss against time; return the path."""
    from matplotlib.figure import Figure

    from deltajit.plot import PALETTE

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    panels = figure.subplots(1, len(results["curves"]))
    for axes, (problem, found) in zip(panels, results["curves"].items(), strict=True):
        for (name, one), color in zip(found.items(), PALETTE, strict=False):
            axes.loglog(one["seconds"], one["loss"], color=color, label=name)
        axes.set(title=problem, xlabel="CPU time / s", xlim=(0.03, SECONDS))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("loss of all samples")
    panels[0].legend()
    figure.savefig(path, dpi=90)
    return path


if __name__ == "__main__":
    store.run("second_order", run)
