"""A block of samples through all layers, forward and backward."""

from drawing import BLUE, GREEN, GREY, ORANGE, arrow, box, canvas, note

ax = canvas(9, 3.6)
note(ax, 0.75, 0.35, "batch", 11)
for i in range(4):
    box(ax, 0.3, 0.6 + 0.6 * i, 0.9, 0.6, "block" if i == 1 else "", ORANGE if i == 1 else GREY, 9)
arrow(ax, (1.22, 1.5), (2.0, 1.3), ORANGE)
for k, name in enumerate(["a[0] = X", "a[1]", "a[2]", "a[L]"]):
    box(ax, 2.05 + 1.75 * k, 0.9, 1.2, 0.7, name, BLUE, 10)
    box(
        ax,
        2.05 + 1.75 * k,
        2.2,
        1.2,
        0.7,
        ["dW, db", "delta[1]", "delta[2]", "delta[L]"][k],
        GREEN,
        10,
    )
    if k:
        arrow(ax, (1.5 + 1.75 * k, 1.25), (2.03 + 1.75 * k, 1.25), BLUE)
        arrow(ax, (2.03 + 1.75 * k, 2.55), (1.5 + 1.75 * k, 2.55), GREEN)
arrow(ax, (7.9, 1.62), (7.9, 2.18))
note(ax, 8.3, 1.9, "BP1", 9)
note(ax, 5.1, 0.6, "forward: product and f in one kernel a layer", 10, BLUE)
note(ax, 5.1, 3.25, "backward: BP2, and BP3 and BP4 added to the gradient", 10, GREEN)
