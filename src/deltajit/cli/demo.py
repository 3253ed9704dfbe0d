"""``deltajit demo``: a network learns to read handwritten digits, and its gradient is checked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deltajit import reference
from deltajit.cli.timing import medians, one_thread, readable
from deltajit.kernels.mlp.optimizers import SGD, Adam
from deltajit.model.memory import Array
from deltajit.network import Network
from deltajit.plot.axes import PALETTE
from deltajit.training.history import History

SIZES = [64, 128, 10]
BATCH = 32


class Digits(NamedTuple):
    """Hold images of 8 x 8 pixels and their labels, split into training and test samples.

    Attributes
    ----------
    X, X_test : ndarray of float, (B, 64)
        Brightness of each pixel, from 0 to 1.
    Y, Y_test : ndarray of int, (B,)
        Digits 0 to 9.
    """

    X: Array
    Y: Array
    X_test: Array
    Y_test: Array


def run(figure: Path, epochs: int = 40) -> dict[str, object]:
    """Train, check, time, and save a figure; print the results, and return them.

    Parameters
    ----------
    figure : pathlib.Path
        File for the figure.
    epochs : int
        Epochs of training.

    Returns
    -------
    dict
        Losses, accuracy, errors of the gradient, and seconds.
    """
    digits = load()
    print(f"1. Training on {len(digits.X)} of scikit-learn's handwritten digits")
    net = Network(SIZES, activation="relu", output="softmax", rng=0)
    print(f"   {net}")
    start = time.perf_counter()
    net.value_and_grad(digits.X[:1], digits.Y[:1])
    first = time.perf_counter() - start
    history = net.fit(
        digits.X,
        digits.Y,
        epochs=epochs,
        batch_size=BATCH,
        optimizer=Adam(1e-3),
        validation_data=(digits.X_test, digits.Y_test),
    )
    guess = net.predict(digits.X_test).argmax(axis=1)
    print(f"   first gradient after         {readable(first)} (compiled, or read from the cache)")
    print(f"   loss, first and last epoch   {history.loss[0]:.4f} -> {history.loss[-1]:.4f}")
    print(f"   time an epoch (median)       {readable(float(np.median(history.time)))}")
    accuracy = float((guess == digits.Y_test).mean())
    print(f"   accuracy on {len(guess)} test images  {accuracy:.4f}")

    print("2. Is the gradient right? In float64, largest difference over largest element:")
    against_reference, against_complex_step = check_gradient(net, digits)
    print(f"   to the NumPy reference       {against_reference:.1e}")
    print(f"   to complex step              {against_complex_step:.1e}")

    print("3. Is it fast? Medians, the two of each pair taken in turns, one thread:")
    with one_thread():
        seconds = report_times(net, digits)

    save_figure(figure, history, digits, guess)
    print(f"4. Loss curve and some test digits: {figure}")
    return {
        "loss": history.loss,
        "val_loss": history.val_loss,
        "accuracy": accuracy,
        "error_to_reference": against_reference,
        "error_to_complex_step": against_complex_step,
        "seconds": {"first_gradient": first, **seconds},
        "figure": str(figure),
    }


def load() -> Digits:
    """Load scikit-learn's 1,797 digits, and set a fifth, drawn at random, aside for tests."""
    from sklearn.datasets import load_digits

    X, Y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, Y = X[order] / 16, Y[order]
    n_test = len(X) // 5
    return Digits(X[n_test:], Y[n_test:], X[:n_test], Y[:n_test])


def check_gradient(net: Network, digits: Digits) -> tuple[float, float]:
    """Return the largest relative difference from the reference, and from complex steps."""
    double = Network(SIZES, activation="relu", output="softmax", dtype="float64", l2=1e-3)
    double.theta = net.theta
    X, Y = digits.X[:8], digits.Y[:8]
    grad = double.grad(X, Y)
    _, dW, db = reference.value_and_grad(double.reference, X, Y)
    expected = double.flatten(dW, db)
    by_step = complex_step(double, X, Y)
    size = np.abs(expected).max()
    return float(abs(grad - expected).max() / size), float(abs(grad - by_step).max() / size)


def complex_step(net: Network, X: Array, Y: Array) -> Array:
    """Compute the gradient as ``Im loss(theta + ih e_k) / h`` for each k, exact to rounding errors.

    No difference of nearby numbers is taken, so nothing cancels (Squire & Trapp 1998).
    """
    step = 1e-30
    theta = net.theta.astype(complex)
    weights, biases = net.unflatten(theta)
    model = net.reference._replace(weights=weights, biases=biases)
    grad = np.empty(net.n_params)
    for k in range(net.n_params):
        theta[k] += 1j * step
        grad[k] = reference.loss(model, X, Y).imag / step
        theta[k] = theta[k].real
    return grad


def report_times(net: Network, digits: Digits) -> dict[str, float]:
    """Print and return the times of loss, gradient, and an epoch of SGD here and in NumPy."""
    X, Y = digits.X.astype(np.float32), digits.Y
    loss, gradient = medians(lambda: net.loss(X, Y), lambda: net.value_and_grad(X, Y))
    print(f"   loss of {len(X)} samples         {readable(loss)}")
    print(f"   loss and gradient            {readable(gradient)}: {gradient / loss:.2f} x the loss")

    order = np.arange(len(X))
    compiled, twin = (Network(SIZES, activation="relu", output="softmax") for _ in range(2))
    sgd = SGD(0.05)
    jitted, in_numpy = medians(
        lambda: compiled.fit(X, Y, epochs=1, batch_size=BATCH, optimizer=sgd, progress=False),
        lambda: reference.fit_epoch(twin.reference, X, Y, order, BATCH, lr=0.05),
    )
    print(f"   an epoch of SGD, batch {BATCH}    {readable(jitted)}")
    print(
        f"   the same in NumPy            {readable(in_numpy)}: {in_numpy / jitted:.1f} x as long"
    )
    return {"loss": loss, "gradient": gradient, "epoch": jitted, "epoch_in_numpy": in_numpy}


def save_figure(path: Path, history: History, digits: Digits, guess: Array) -> None:
    """Save loss curves, and test digits with the predicted labels, wrong ones first, in colour."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    grid = figure.add_gridspec(3, 12)
    axes = history.plot(log=True, ax=figure.add_subplot(grid[:, :6]))
    axes.set(ylabel="cross-entropy", title="Loss")
    for k, i in enumerate(chosen(guess, digits.Y_test, 18)):
        cell = figure.add_subplot(grid[k // 6, 6 + k % 6])
        cell.imshow(digits.X_test[i].reshape(8, 8), cmap="gray_r")
        good = guess[i] == digits.Y_test[i]
        cell.set_title(
            f"{guess[i]}" if good else f"{guess[i]}, not {digits.Y_test[i]}",
            color="black" if good else PALETTE[1],
            fontsize="small",
        )
        cell.set_axis_off()
    figure.savefig(path, dpi=120)


def chosen(guess: Array, labels: Array, count: int) -> Array:
    """Return the places of wrong guesses, then of right ones, every digit in turn."""
    turn = np.empty(len(labels), int)  # how many of the same label stand before it
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    return np.lexsort((labels, turn, guess == labels))[:count]
