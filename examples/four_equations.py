"""Backpropagation number by number
================================

The chain rule on graphs, then the four equations of a network.

Two textbook circuits come first, node by node. Then a network 2-3-2 (tanh, softmax, cross-entropy)
whose gradient is computed in three ways: by the equations BP1 to BP4, a line of NumPy each; by
`Network.grad`; and by reverse accumulation over the graph of every single operation, which knows
nothing of layers. All the numbers agree.

The cells (# %%) run one by one in Jupyter or VS Code; as a script, with --show for the pictures or
--save for four_equations.png.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import deltajit as dj
from deltajit.circuit import dot

# %%
# A circuit: a function of scalars, and the graph of its operations
# -----------------------------------------------------------------
#
# Forward, from the inputs down: each node's value. Backward, from the output up: each node's
# adjoint, d output / d node. An adjoint goes to the operands, times the local derivative, and what
# arrives at one node over several edges is added: x2 has 2 * 1 from the sum and 3 * 1 from the max.


def textbook(x1, x2, x3):
    """y = (x1 + x2) * max(x2, x3)."""
    return (x1 + x2) * np.maximum(x2, x3)


first, point = dj.Circuit(textbook, 3), [1, 2, 0]
y, y_grad = first.value_and_grad(point)
print(f"y = (x1 + x2) * max(x2, x3) at {point}: y = {y:g}, gradient {y_grad}\n")
print(first.trace(point))

# %%
# A sigmoid neuron with two inputs
# --------------------------------
#
# The adjoint of v4, the sum of the neuron, is sigmoid' = y (1 - y): that one number is multiplied
# by the other factor of each product. The next cells call it delta.


def neuron(w0, x0, w1, x1, w2):
    """y = sigmoid(w0 x0 + w1 x1 + w2)."""
    return 1 / (1 + np.exp(-(w0 * x0 + w1 * x1 + w2)))


second, at = dj.Circuit(neuron, 5), [2, -1, -3, -2, -3]
p, p_grad = second.value_and_grad(at)
print(f"\ny = 1 / (1 + exp(-(w0 x0 + w1 x1 + w2))) at {at}: y = {p:.6f}\n")
print(second.trace(at))
print(f"\nsigmoid' = y (1 - y) = {p * (1 - p):.6f}, the adjoint of v4")

# %%
# A network 2-3-2 and two samples
# -------------------------------
#
# In round numbers. Samples are rows, so X is (B, 2).
net = dj.Network([2, 3, 2], activation="tanh", output="softmax", dtype="float64")
net.weights[0][:] = [[0.1, -0.2], [0.4, 0.3], [-0.5, 0.2]]
net.weights[1][:] = [[0.3, -0.4, 0.2], [-0.1, 0.5, 0.6]]
net.biases[0][:], net.biases[1][:] = [0.1, 0, -0.1], [0.2, -0.2]
(W1, W2), (b1, b2) = net.weights, net.biases
X, Y = np.array([[0.5, -1.0], [2.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])


def show(**arrays):
    """Print each array under its name."""
    for name, array in arrays.items():
        text = np.array2string(array, precision=6, suppress_small=True, prefix=" " * 12)
        print(f"  {name:9} {text}")


# %%
# Forward
# -------
#
# ``z = a_prev @ W.T + b``, ``a = f(z)``, layer by layer.
z1 = X @ W1.T + b1
a1 = np.tanh(z1)
z2 = a1 @ W2.T + b2
a2 = np.exp(z2) / np.exp(z2).sum(axis=1, keepdims=True)
loss = -(Y * np.log(a2)).sum(axis=1).mean()
print("\nForward, a row a sample")
show(X=X, z1=z1, a1=a1, z2=z2, a2=a2)
print(f"  loss      {loss:.6f}, net.loss {net.loss(X, Y):.6f}")

# %%
# Backward
# --------
#
# delta = d loss / dz. The loss is a mean over samples, hence the division by B.
# BP1 of softmax and cross-entropy is a difference only; examples/derivations.py shows why.
B = len(X)
delta2 = (a2 - Y) / B  # BP1
delta1 = (delta2 @ W2) * (1 - a1**2)  # BP2, tanh' = 1 - tanh^2
dW2, dW1 = delta2.T @ a1, delta1.T @ X  # BP3
db2, db1 = delta2.sum(axis=0), delta1.sum(axis=0)  # BP4
print("\nBackward")
show(delta2=delta2, dW2=dW2, db2=db2, delta1=delta1, dW1=dW1, db1=db1)

# %%
# The same loss as a circuit
# --------------------------
#
# One function of 17 scalars: no matrices, no layers.


def loss_of(*theta):
    """The loss above, of all weights and biases, with each sum written out."""
    (W1, W2), (b1, b2) = net.unflatten(np.array(theta))
    total = 0
    for x, y in zip(X, Y, strict=True):
        a1 = [np.tanh(dot(row, x) + b) for row, b in zip(W1, b1, strict=True)]
        z2 = [dot(row, a1) + b for row, b in zip(W2, b2, strict=True)]
        total += np.log(sum(np.exp(z) for z in z2)) - dot(y, z2)  # -log softmax(z2) of the class
    return total / len(X)


circuit = dj.Circuit(loss_of, net.n_params)
value, by_circuit = circuit.value_and_grad(net.theta)
print(f"\n{circuit}: loss {value:.6f}")

# %%
# Three ways to one gradient
# --------------------------
#
# theta has all parameters in a vector; where each of them is, unflatten of 0, 1, 2, ... tells.
by_equations, by_net = net.flatten([dW1, dW2], [db1, db2]), net.grad(X, Y)
spread = np.ptp([by_equations, by_net, by_circuit], axis=0)
agreement = (spread / abs(by_equations)).max()
print(f"\n{'parameter':12}{'BP1 to BP4':>14}{'net.grad':>14}{'circuit':>14}{'difference':>14}")
places = sum(zip(*net.unflatten(np.arange(net.n_params)), strict=True), ())  # W1, b1, W2, b2
for array, where in zip(("W1", "b1", "W2", "b2"), places, strict=True):
    for index, k in np.ndenumerate(where):
        name = f"{array}[{', '.join(map(str, index))}]"
        row = f"{by_equations[k]:14.9f}{by_net[k]:14.9f}{by_circuit[k]:14.9f}"
        print(f"{name:12}{row}{spread[k]:14.1e}")
print(f"largest relative difference {agreement:.1e}")
assert agreement < 1e-12

# %%
# One step further: the Hessian times v
# -------------------------------------
#
# How fast the gradient changes as theta goes along v.
v = np.ones(net.n_params)
hvp_net, hvp_circuit = net.hvp(X, Y, v), circuit.hvp(net.theta, v)
hvp_agreement = abs(hvp_net - hvp_circuit).max() / abs(hvp_net).max()
h = 1e-5
quotient = (circuit.grad(net.theta + h * v) - circuit.grad(net.theta - h * v)) / (2 * h)
hvp_error = abs(quotient - hvp_net).max() / abs(hvp_net).max()
print("\nHessian times v, relative to its largest element")
print(f"  net.hvp and circuit.hvp differ by           {hvp_agreement:.1e}")
print(f"  net.hvp and a quotient of gradients differ  {hvp_error:.1e}")
assert hvp_agreement < 1e-12

# %%
# The two textbook circuits
# -------------------------
#
# In the boxes values, below them adjoints; on the edges local derivatives.
figure, axes = plt.subplots(2, figsize=(14, 8), height_ratios=[3, 5], layout="constrained")
first.plot(point, ax=axes[0]).set_title("y = (x1 + x2) * max(x2, x3), and dy/dnode below")
second.plot(at, ax=axes[1]).set_title("y = sigmoid(w0 x0 + w1 x1 + w2), and dy/dnode below")
if "--save" in sys.argv:
    figure.savefig("four_equations.png")
if "--show" in sys.argv:
    plt.show()
