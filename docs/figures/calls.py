"""Compiled once, called by address: a model's table holds where its kernels are."""

from drawing import BLUE, GREEN, ORANGE, arrow, box, canvas, note

ax = canvas(9, 3.3)
note(ax, 1.35, 0.3, "your @njit function", 11, ORANGE)
box(ax, 0.1, 0.55, 2.5, 1.7, color=ORANGE)
code = """for _ in range(steps):
  kernels.value_and_grad(
    model, X, Y, grad, work)
  model.theta[:] -= lr * grad"""
ax.text(0.2, 1.4, code, ha="left", va="center", fontsize=8.5, family="monospace")
note(ax, 1.35, 2.6, "compiles in the time\nof its own lines", 9, ORANGE)
note(ax, 4.65, 0.95, "net.model: a table of data", 11, BLUE)
rows = [
    "784 -> 128, tanh    0x7f..40",
    "128 -> 10, softmax  0x7f..c0",
    "cross_entropy       0x7f..80",
]
for i, row in enumerate(rows):
    box(ax, 3.4, 1.2 + 0.35 * i, 2.5, 0.35, color=BLUE)
    ax.text(3.5, 1.375 + 0.35 * i, row, ha="left", va="center", fontsize=8.5, family="monospace")
note(ax, 4.65, 2.6, "other sizes, depths, activations:\nother data, nothing to compile", 9, BLUE)
note(ax, 7.75, 0.3, "kernels, on disk", 11, GREEN)
for i, name in enumerate(["value_and_grad", "tanh", "softmax", "cross_entropy"]):
    box(ax, 6.7, 0.55 + 0.44 * i, 2.1, 0.38, name, GREEN, 9)
note(ax, 7.75, 2.6, "each compiled once,\nfor a dtype and a CPU", 9, GREEN)
arrow(ax, (2.6, 0.72), (6.7, 0.72), ORANGE)
for i in range(3):
    arrow(ax, (5.9, 1.375 + 0.35 * i), (6.7, 1.18 + 0.44 * i), BLUE)
