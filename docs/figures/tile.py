"""The register tile: one column of a times one row of b, into accumulators."""

from drawing import BLUE, GREEN, ORANGE, arrow, box, canvas, note

ax = canvas(9, 4.6)
note(ax, 1.05, 0.95, "a, 8 rows", 11, ORANGE)
for i in range(8):
    box(ax, 0.8, 1.2 + 0.36 * i, 0.5, 0.36, f"a[{i}, k]", ORANGE, 7)
note(ax, 5.2, 0.2, "b, row k: 2 vectors of 16 float32", 11, BLUE)
for v in range(2):
    box(ax, 2.4 + 2.9 * v, 0.45, 2.8, 0.42, f"b[k, {16 * v} : {16 * v + 16}]", BLUE, 10)
for i in range(8):
    for v in range(2):
        box(ax, 2.4 + 2.9 * v, 1.2 + 0.36 * i, 2.8, 0.36, f"c[{i}, {v}] += a[{i}, k] * b[k, {v}]",
            GREEN, 8)  # fmt: skip
arrow(ax, (1.32, 2.64), (2.38, 2.64), ORANGE)
note(ax, 1.85, 2.4, "broadcast", 8, ORANGE)
arrow(ax, (3.8, 0.87), (3.8, 1.2), BLUE)
arrow(ax, (6.7, 0.87), (6.7, 1.2), BLUE)
note(ax, 5.2, 4.32, "16 accumulators stay in registers for all k; c is written once", 11, GREEN)
