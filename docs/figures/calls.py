"""Compiled once, called by address: a model's table holds where its kernels are."""

from drawing import BLUE, GREEN, ORANGE, arrow, box, canvas, note

ax = canvas(9, 3.7)
note(ax, 1.4, 0.3, "your @njit function", 11, ORANGE)
code = """for _ in range(steps):
  kernels.value_and_grad(
    model, X, Y, grad, work)
  model.theta[:] -= lr * grad"""
box(ax, 0.2, 0.6, 2.4, 1.5, code, ORANGE, 7.5)
note(ax, 1.4, 2.4, "compiles in the time\nof its own lines", 9, ORANGE)
note(ax, 4.5, 0.3, "net.model: a table of data", 11, BLUE)
for i, text in enumerate(["784 -> 128, tanh  at 0x7f..40", "128 -> 10, softmax  at 0x7f..c0",
                          "cross_entropy  at 0x7f..80"]):  # fmt: skip
    box(ax, 3.3, 0.6 + 0.5 * i, 2.4, 0.5, text, BLUE, 8)
note(ax, 4.5, 2.4, "other sizes, depths, activations:\nother data, nothing to compile", 9, BLUE)
note(ax, 7.6, 0.3, "kernels, on disk", 11, GREEN)
for i, text in enumerate(["value_and_grad", "tanh", "softmax", "cross_entropy"]):
    box(ax, 6.6, 0.6 + 0.42 * i, 2.0, 0.36, text, GREEN, 9)
note(ax, 7.6, 2.55, "each compiled once,\nfor a dtype and a CPU", 9, GREEN)
arrow(ax, (2.6, 0.72), (6.6, 0.7), ORANGE, -0.08)
for i, to in enumerate([1.2, 1.62, 2.04]):
    arrow(ax, (5.7, 0.85 + 0.5 * i), (6.6, to), BLUE)
