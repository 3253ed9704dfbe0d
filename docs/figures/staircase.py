"""A sine by stairs, and how the largest error falls with their number."""

import math

import matplotlib.pyplot as plt
import numpy as np

from deltajit.constructions import staircase
from deltajit.plot import PALETTE

begin, end = 0, 2 * math.pi
x = np.linspace(begin, end, 4001)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.plot(x, np.sin(x), color="black", lw=1, label="sin")
for n, color in [(8, PALETTE[1]), (32, PALETTE[0])]:
    left.plot(x, staircase(math.sin, begin, end, n).predict(x[:, None])[:, 0], color=color,
              label=f"{n} stairs: 1-{n - 1}-1")  # fmt: skip
left.legend()
left.set(xlabel="x", ylabel="output")
counts = 2 ** np.arange(3, 10)
errors = [
    abs(staircase(math.sin, begin, end, n).predict(x[:, None])[:, 0] - np.sin(x)).max()
    for n in counts.tolist()
]
right.loglog(counts, errors, "o", color=PALETTE[0], label="largest error")
right.loglog(counts, (end - begin) / (2 * counts), color="black", lw=1, label="bound, K = 1")
right.legend()
right.set(xlabel="stairs n")
right.grid(alpha=0.3, which="both", lw=0.5)
