"""Panels: what of a, b and c a sweep of tiles touches, and where it lies."""

from drawing import BLUE, GREEN, GREY, ORANGE, arrow, box, canvas, note

ax = canvas(9, 4)
note(ax, 1.5, 0.3, "a", 13)
box(ax, 0.5, 0.6, 2.0, 2.6)
box(ax, 0.5, 0.6, 1.0, 2.6, color=GREY)
box(ax, 0.5, 1.3, 1.0, 0.5, "8 rows", ORANGE, 9)
note(ax, 3.0, 1.9, "@", 14)
note(ax, 4.6, 0.3, "b", 13)
box(ax, 3.5, 0.6, 2.2, 2.0)
box(ax, 3.5, 0.6, 2.2, 1.0, color=GREY)
box(ax, 4.1, 0.6, 0.6, 1.0, "panel", BLUE, 9)
note(ax, 6.1, 1.9, "=", 14)
note(ax, 7.6, 0.3, "c", 13)
box(ax, 6.5, 0.6, 2.2, 2.6)
box(ax, 7.1, 0.6, 0.6, 2.6, color=GREY)
box(ax, 7.1, 1.3, 0.6, 0.5, "tile", GREEN, 9)
arrow(ax, (0.35, 0.7), (0.35, 3.1), ORANGE)
note(ax, 1.5, 3.55, "all rows of a go by,\n8 at a time", 9, ORANGE)
note(ax, 4.6, 3.1, "256 rows x 2 vectors, packed:\n32 KB, stays in the L1 cache", 9, BLUE)
note(ax, 7.6, 3.55, "each tile adds its sum\nto c once a panel", 9, GREEN)
