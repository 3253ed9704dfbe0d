"""Where the four equations come from
==================================

Each formula is derived, and checked as a line of NumPy.

First two layers, from the chain rule for single numbers to matrices. Then any number of layers, by
one recursion. Then the softmax, whose Jacobian and the derivative of the cross-entropy collapse to
a - y. Last, what it costs: the gradient by all parameters takes a small multiple of one value.

Networks are checked against `Network.grad`, the softmax against a `Circuit`, which knows the
derivatives of single operations only. The cells (# %%) run one by one in Jupyter or VS Code; as a
script, with --show for the picture.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import deltajit as dj
from deltajit.circuit import sigmoid
from deltajit.cli.timing import medians, readable

rng = np.random.default_rng(0)


def error(found, expected):
    """Largest difference relative to the largest element."""
    return abs(found - expected).max() / abs(expected).max()


# %%
# Two layers, a squared error, B samples
# --------------------------------------
#
# ::
#
#     z1 = X W1^T + b1    a1 = tanh(z1)    z2 = a1 W2^T + b2    a2 = sigmoid(z2)
#     J = 1/(2B) sum_si (a2_si - y_si)^2
#
# s counts samples, i outputs, j hidden units, k inputs; tanh' = 1 - a1^2, sigmoid' = a2 (1 - a2).
net = dj.Network([4, 5, 3], "tanh", "sigmoid", "squared_error", dtype="float64", rng=rng)
net.theta += 0.1 * rng.normal(size=net.n_params)  # biases begin as zeros
B = 6
X, Y = rng.normal(size=(B, 4)), rng.uniform(size=(B, 3))
(W1, W2), (b1, b2) = net.weights, net.biases
a1 = np.tanh(X @ W1.T + b1)
a2 = sigmoid(a1 @ W2.T + b2)

# %%
# The last layer
# --------------
#
# z2_si reaches J through a2_si alone, so the chain rule has one term::
#
#     BP1   delta2_si = dJ/dz2_si = dJ/da2_si da2_si/dz2_si = (a2_si - y_si)/B * a2_si (1 - a2_si)
#
# W2_ij and b2_i reach J through z2_si = sum_j a1_sj W2_ij + b2_i of every sample s, hence sums
# over s; dz2_si/dW2_ij = a1_sj and dz2_si/db2_i = 1::
#
#     BP3   dJ/dW2_ij = sum_s delta2_si a1_sj
#     BP4   dJ/db2_i = sum_s delta2_si
delta2 = (a2 - Y) / B * a2 * (1 - a2)
dW2 = delta2.T @ a1
db2 = delta2.sum(axis=0)

# %%
# The layer before
# ----------------
#
# a1_sj reaches J through z2_si of every unit i, hence a sum over i; dz2_si/da1_sj = W2_ij::
#
#     BP2   delta1_sj = dJ/dz1_sj = (sum_i delta2_si W2_ij) tanh'(z1_sj)
#
# From delta1 on, everything is as before, with X in the place of a1.
delta1 = (delta2 @ W2) * (1 - a1**2)
dW1 = delta1.T @ X
db1 = delta1.sum(axis=0)

by_formulas = dict(dW1=dW1, dW2=dW2, db1=db1, db2=db2)
by_net = sum(net.unflatten(net.grad(X, Y)), ())  # (dW1, dW2) + (db1, db2)
two_layers = {n: error(by_formulas[n], part) for n, part in zip(by_formulas, by_net, strict=True)}
print("Two layers: the formulas against net.grad, largest relative difference")
for name, difference in two_layers.items():
    print(f"  {name}  {difference:.1e}")
assert max(two_layers.values()) < 1e-12

# %%
# r layers
# --------
#
# Nothing in BP2 to BP4 knows how many layers there are, so they make a loop.


def forward(weights, biases, x):
    """a[0] = x to a[r]: layers of tanh, and sigmoids at the end."""
    a = [x]
    for W, b in zip(weights, biases, strict=True):
        f = np.tanh if len(a) < len(weights) else sigmoid
        a.append(f(a[-1] @ W.T + b))
    return a


def gradient(weights, biases, X, Y):
    """dW and db, by the recursion from the last layer down to the first."""
    a = forward(weights, biases, X)
    delta = (a[-1] - Y) / len(X) * a[-1] * (1 - a[-1])  # BP1
    dW, db = [], []
    for W, before in zip(reversed(weights), reversed(a[:-1]), strict=True):
        dW.insert(0, delta.T @ before)  # BP3
        db.insert(0, delta.sum(axis=0))  # BP4
        delta = (delta @ W) * (1 - before**2)  # BP2; below the first layer nothing uses it
    return dW, db


recursion = {}
print("\nr layers: the recursion against net.grad")
for r in range(2, 7):
    sizes = [4, *range(5, 4 + r), 3]
    deep = dj.Network(sizes, "tanh", "sigmoid", "squared_error", dtype="float64", rng=rng)
    found = deep.flatten(*gradient(deep.weights, deep.biases, X, Y))
    recursion[r] = error(found, deep.grad(X, Y))
    print(f"  r = {r}  {'-'.join(map(str, sizes)):16}{recursion[r]:.1e}")
assert max(recursion.values()) < 1e-12

# %%
# Softmax
# -------
#
# a_i = exp(z_i) / S with S = sum_k exp(z_k), so each a_i depends on each z_j::
#
#     da_i/dz_i = exp(z_i)/S - exp(z_i)^2/S^2 = a_i - a_i a_i
#     da_i/dz_j = -exp(z_i) exp(z_j)/S^2      =     - a_i a_j      where i != j
#
# Together diag(a) - a a^T. A circuit of exponentials, sums and quotients knows nothing of that.


def softmax(*z):
    """As books write it; of numbers, or of the traced values of a Circuit."""
    e = np.exp(np.array(z))
    return e / e.sum()


z, y = rng.normal(size=5), np.eye(5)[2]
circuit = dj.Circuit(softmax, 5)
a = circuit(z)
J = np.diag(a) - np.outer(a, a)
softmax_error = error(circuit.jacobian(z), J)
print(f"\nSoftmax a = {np.array2string(a, precision=4)}, Jacobian diag(a) - a a^T =")
print(np.array2string(J, precision=4, suppress_small=True))
print(f"  differs from that of {circuit} by {softmax_error:.1e}")
print(f"  its columns add up to {abs(J.sum(axis=0)).max():.0e}: what one a_i gains, others lose")

# %%
# Softmax and cross-entropy
# -------------------------
#
# With C = -sum_i y_i log a_i on top, dC/da_i = -y_i / a_i, and BP1 collapses::
#
#     delta_j = sum_i dC/da_i da_i/dz_j = -y_j + a_j sum_i y_i = a_j - y_j      since sum_i y_i = 1
by_circuit = dj.Circuit(lambda *z: -np.sum(y * np.log(softmax(*z))), 5).grad(z)
collapse = error((-y / a) @ J, a - y), error(by_circuit, a - y)
print(f"\nDelta of softmax and cross-entropy, a - y = {np.array2string(a - y, precision=4)}")
print(f"  differs from (-y / a) @ J by {collapse[0]:.1e}, from a circuit by {collapse[1]:.1e}")
assert max(softmax_error, *collapse) < 1e-12

# %%
# What it costs
# -------------
#
# An output of three layers is a circuit of N operations on all parameters.
# Going back visits each operation once more, however many parameters there are; quotients of
# differences would take one more value for each parameter.


def cost(width):
    """Parameters, operations, seconds of a value, and of one with its gradient."""
    net = dj.Network([width, width, width, 1], "tanh", "sigmoid", dtype="float64", rng=rng)
    at, x = net.theta, rng.normal(size=width)
    c = dj.Circuit(lambda *theta: forward(*net.unflatten(np.array(theta)), x)[-1][0], at.size)
    value, both = medians(lambda: c(at), lambda: c.value_and_grad(at), seconds=0.1)
    return at.size, c.n_operations, value, both


print("\nparameters  operations N     value  with gradient  ratio  ratio, by differences")
costs = [cost(width) for width in (16, 32, 64, 128)]
for n, operations, value, both in costs:
    row = f"{n:10,}{operations:14,}{readable(value):>10}{readable(both):>15}{both / value:7.1f}"
    print(f"{row}{n + 1:23,}")

# %%
# The same as a picture
# ---------------------
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
parameters, _, values, gradients = zip(*costs, strict=True)
ax.loglog(parameters, values, "o-", color=dj.plot.PALETTE[0], label="a value")
ax.loglog(parameters, gradients, "o-", color=dj.plot.PALETTE[1], label="and its gradient")
ax.set(xlabel="parameters", ylabel="seconds")
ax.grid(alpha=0.3)
ax.legend()
if "--show" in sys.argv:
    plt.show()
