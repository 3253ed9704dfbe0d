"""What networks can compute
=========================

Perceptrons whose weights are written down, and what they get right.

One layer makes a gate, two make any Boolean function and any convex polygon, three make shapes that
are not convex, and a hidden layer comes as close as one likes to a continuous function. Layers
without activations add nothing: they collapse into one.
"""

import itertools
import math
import sys

import matplotlib.pyplot as plt
import numpy as np

import deltajit as dj
from deltajit.constructions import (
    and_gate,
    boolean,
    convex_polygon,
    not_gate,
    or_gate,
    pulse,
    staircase,
    union_of_polygons,
    xor,
)

STAIRS = (8, 16, 32, 64, 128, 256, 512)


# %%
# Gates and Boolean functions
# ---------------------------
def bits(n):
    """Every input of n bits, (2**n, n)."""
    return np.array(list(itertools.product((0, 1), repeat=n)))


def logic(rng):
    """(what, network, inputs, outputs that it should have) of gates and Boolean functions."""
    yield "NOT", not_gate(), bits(1), [1, 0]
    yield "AND of 8", and_gate(8), bits(8), bits(8).all(axis=1)
    yield "OR of 8", or_gate(8), bits(8), bits(8).any(axis=1)
    yield "XOR", xor(), bits(2), [0, 1, 1, 0]
    parity = bits(8).sum(axis=1) % 2
    yield "parity of 8", boolean(parity), bits(8), parity
    table = rng.integers(2, size=2**10)
    yield "a random table of 10", boolean(table), bits(10), table


# %%
# Regions
# -------
def regions(rng, points):
    """The same of regions, at random points; a plus is two bars that overlap."""
    X = rng.uniform(-4, 4, (points, 2))
    x, y = abs(X).T
    hexagon = [(2 * math.cos(k * math.pi / 3), 2 * math.sin(k * math.pi / 3)) for k in range(6)]
    inside = (y < math.sqrt(3)) & (math.sqrt(3) * x + y < 2 * math.sqrt(3))
    yield "a hexagon", convex_polygon(hexagon), X, inside
    bars = [[(-w, -h), (w, -h), (w, h), (-w, h)] for w, h in [(1, 3), (3, 1)]]
    inside = ((x < 1) & (y < 3)) | ((x < 3) & (y < 1))
    yield "a plus, not convex", union_of_polygons(bars), X, inside
    yield "a pulse", pulse(-1, 2), X[:, :1], (X[:, 0] > -1) & (X[:, 0] <= 2)


# %%
# Stairs, and layers without activations
# --------------------------------------
def sup_error(f, begin, end, n, points):
    """Largest error of n stairs on a grid."""
    x = np.linspace(begin, end, points)
    return abs(staircase(f, begin, end, n).predict(x[:, None])[:, 0] - [f(t) for t in x]).max()


def collapsed(rng):
    """A deep network of identity layers, the one layer that it is, and how far they differ."""
    deep = dj.Network([8, 64, 64, 64, 4], "identity", dtype="float64", rng=rng)
    X = rng.normal(size=(1000, 8))
    return deep, deep.collapse(), abs(deep.predict(X) - deep.collapse().predict(X)).max()


def shown(sizes):
    """Sizes of layers as a repr has them."""
    return "-".join(map(str, sizes))


# %%
# All of it
# ---------
def run(points=100_000, seed=0):
    """Everything above, measured."""
    rng = np.random.default_rng(seed)
    exact = [
        (what, net.sizes, int((net.predict(X)[:, 0] == Y).sum()), len(X))
        for what, net, X, Y in itertools.chain(logic(rng), regions(rng, points))
    ]
    tables = list(itertools.product((0, 1), repeat=8))
    right = sum(boolean(table).predict(bits(3))[:, 0].tolist() == list(table) for table in tables)
    errors = [sup_error(math.sin, 0, 2 * math.pi, n, points) for n in STAIRS]
    deep, one, difference = collapsed(rng)
    return {
        "exact": exact,
        "functions_of_3": (right, len(tables)),
        "sup_errors": errors,
        "slope": np.polyfit(np.log(STAIRS), np.log(errors), 1)[0],
        "collapse": (deep.sizes, one.sizes, difference),
    }


def draw():
    """Draw the plus as the network has it, and a sine by stairs."""
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    bars = [[(-w, -h), (w, -h), (w, h), (-w, h)] for w, h in [(1, 3), (3, 1)]]
    grid = np.linspace(-4, 4, 400)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    inside = union_of_polygons(bars).predict(points).reshape(400, 400)
    left.imshow(inside, extent=(-4, 4, -4, 4), origin="lower", cmap="Blues", vmax=2)
    left.set(title="a plus, not convex")
    x = np.linspace(0, 2 * math.pi, 2000)
    right.plot(x, np.sin(x), color="black", linewidth=1)
    for n, color in zip((8, 32), dj.plot.PALETTE, strict=False):
        stairs = staircase(math.sin, 0, 2 * math.pi, n).predict(x[:, None])
        right.plot(x, stairs[:, 0], color=color, label=f"{n} stairs")
    right.set(title="sin")
    right.legend()


# %%
# Measured
# --------
if __name__ == "__main__":
    found = run()
    print(f"{'what':22}{'layers':>12}   right outputs")
    for what, sizes, right, count in found["exact"]:
        print(f"{what:22}{shown(sizes):>12}   {right:,} of {count:,}")
    right, count = found["functions_of_3"]
    print(f"{'functions of 3 bits':22}{'3-m-1':>12}   {right:,} of {count:,} have all 8 right\n")
    print(f"{'sin as n stairs':22}{'layers':>12}   largest error")
    for n, error in zip(STAIRS, found["sup_errors"], strict=True):
        print(f"{f'n = {n}':22}{f'1-{n - 1}-1':>12}   {error:.5f}")
    print(f"the error goes as n ** {found['slope']:.3f}\n")
    deep, one, difference = found["collapse"]
    print(f"{shown(deep)} without activations is {shown(one)}: they differ by {difference:.0e}")
    draw()
    if "--show" in sys.argv:
        plt.show()
