"""Batch, stochastic and mini-batch gradient descent
=================================================

One problem, equal epochs, then equal time.

All of them go down the gradient of the mean loss. They differ in how many samples an update looks
at: all of them, one, or a few. First what such an estimate of the gradient is worth and what it
costs; then a network for handwritten digits, trained in each way at the best of the same learning
rates, and a few samples also with momentum and by Adam.

The cells (# %%) run one by one in Jupyter or VS Code; as a script, with --show for the picture or
--save for descents.png.
"""

import math
import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import deltajit as dj
from deltajit.cli.timing import readable

EPOCHS = 50
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

# %%
# The digits
# ----------
#
# 1,797 of 8 x 8 pixels; the last 397 are for the test. One network for all, one core.
images, digits = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
X, Y, X_test, Y_test = images[:1400], digits[:1400], images[1400:], digits[1400:]


def network():
    """The same weights every time."""
    return dj.Network([64, 32, 10], "tanh", "softmax", rng=0, threads=1)


# %%
# What the gradient of b samples is worth, and what an update by it takes
# -----------------------------------------------------------------------
#
# On the average over all choices of b samples it is the gradient g of all n. A single choice is off
# by a noise that falls as sqrt(1/b - 1/n): a hundred times the work for a tenth of the noise.
net, rng, n = network(), np.random.default_rng(0), len(X)
g, noise = net.grad(X, Y), {}
print("samples b  |gradient - g| / |g|  over sqrt(1/b - 1/n)  time of an update   a sample")
for b in (1, 4, 32, 256, n):
    chosen = [rng.choice(n, b, replace=False) for _ in range(200)]
    errors = [np.linalg.norm(net.grad(X[i], Y[i]) - g) / np.linalg.norm(g) for i in chosen]
    noise[b] = np.sqrt(np.mean(np.square(errors)))
    law = f"{noise[b] / np.sqrt(1 / b - 1 / n):.2f}" if b < n else "-"
    history = network().fit(X, Y, 20, b, dj.SGD(0.01), progress=False)
    update = np.median(history.time) / math.ceil(n / b)
    print(f"{b:9,}{noise[b]:22.3f}{law:>22}{readable(update):>20}{readable(update / b):>11}")

# %%
# The descents
# ------------
#
# A smaller b makes more updates of an epoch, which is one pass over the samples.
METHODS = {
    "batch": (n, dj.SGD),
    "stochastic": (1, dj.SGD),
    "mini-batch": (32, dj.SGD),
    "mini-batch, momentum": (32, lambda rate: dj.SGD(rate, momentum=0.9)),
    "mini-batch, Adam": (32, dj.Adam),
}


def descend(method, rate, epochs):
    """The network, and training losses after 0, 1, 2, ... epochs."""
    batch_size, optimizer = METHODS[method]
    net = network()
    losses = [net.loss(X, Y)]
    options = dict(epochs=epochs, batch_size=batch_size, progress=False)
    history = net.fit(X, Y, optimizer=optimizer(rate), validation_data=(X, Y), **options)
    return net, losses + history.val_loss


def seconds_of(method, rate, epochs):
    """Seconds after 0, 1, 2, ... epochs of the same descent, without a look at the losses."""
    batch_size, optimizer = METHODS[method]
    options = dict(epochs=epochs, batch_size=batch_size, progress=False)
    return np.cumsum([0, *network().fit(X, Y, optimizer=optimizer(rate), **options).time])


def report(runs):
    """A row a method."""
    print(
        f"{'':22}{'b':>5}{'rate':>7}{'epochs':>8}{'updates':>9}{'time':>9}{'loss':>10}{'test':>8}"
    )
    for method, (net, losses, seconds) in runs.items():
        b, epochs = METHODS[method][0], len(losses) - 1
        row = f"{method:22}{b:5}{best[method]:7}{epochs:8,}{epochs * math.ceil(n / b):9,}"
        accuracy = (net.predict(X_test).argmax(axis=1) == Y_test).mean()
        print(f"{row}{readable(seconds[-1]):>9}{losses[-1]:10.5f}{accuracy:8.1%}")


# %%
# Equal epochs
# ------------
#
# Each method has the rate that gives it the smallest loss after them.
# Of the plain ones, the more updates the smaller the loss; momentum and Adam make more of as many.
best = {
    method: min(RATES, key=lambda rate, m=method: descend(m, rate, EPOCHS)[1][-1])
    for method in METHODS
}
by_epochs = {m: (*descend(m, best[m], EPOCHS), seconds_of(m, best[m], EPOCHS)) for m in METHODS}
print(f"\nEqual epochs, {EPOCHS}")
report(by_epochs)

# %%
# Equal time
# ----------
#
# What the slowest took. The others have as many epochs as fit into it.
# Samples cost less together than one by one, so mini-batches make up for their fewer updates.
budget = max(seconds[-1] for *_, seconds in by_epochs.values())
by_time = {}
for m, (*_, seconds) in by_epochs.items():
    epochs = round(EPOCHS * budget / seconds[-1])
    by_time[m] = *descend(m, best[m], epochs), seconds_of(m, best[m], epochs)
print(f"\nEqual time, about {readable(budget)}")
report(by_time)

# %%
# Loss against epochs, and against seconds
# ----------------------------------------
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), sharey=True, layout="constrained")
for i, method in enumerate(METHODS):
    style = dict(color=dj.plot.PALETTE[i], label=f"{method}, rate {best[method]:g}")
    left.semilogy(by_epochs[method][1], **style)
    right.semilogy(1e3 * by_time[method][2], by_time[method][1], **style)
left.set(xlabel="epochs", ylabel="training loss", title="Equal epochs")
right.set(xlabel="milliseconds", title="Equal time, one core")
left.legend(fontsize="small")
for ax in (left, right):
    ax.grid(alpha=0.3)
if "--save" in sys.argv:
    figure.savefig("descents.png")
if "--show" in sys.argv:
    plt.show()
