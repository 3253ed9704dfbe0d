"""What notebooks show of an object: a small table, and a picture if matplotlib is installed."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import Any


def face(
    title: str, rows: Sequence[Sequence[object]], draw: Callable[[Any], Any] | None = None
) -> str:
    """Write a titled table, and a picture beside it.

    Parameters
    ----------
    title : str
        What the object is.
    rows : sequence of sequence of object
        Cells of the table, its head first.
    draw : callable, optional
        ``draw(ax)`` draws the picture.

    Returns
    -------
    str
        HTML.
    """
    head, *body = [[html.escape(str(cell)) for cell in row] for row in rows]
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in body]
    table = "".join(f"<tr>{line}</tr>" for line in lines)
    names = "".join(f"<th>{cell}</th>" for cell in head)
    picture = "" if draw is None else _picture(draw)
    return (
        f"<div><code>{html.escape(title)}</code>"
        '<div style="display:flex;flex-wrap:wrap;align-items:flex-start;gap:1em">'
        f"<table><thead><tr>{names}</tr></thead><tbody>{table}</tbody></table>{picture}</div></div>"
    )


def _picture(draw: Callable[[Any], Any]) -> str:
    """Write a picture as an image of its own, since ids of inline SVGs would meet on a page."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return ""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    draw(figure.subplots())
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg")
    data = base64.b64encode(drawn.getvalue()).decode()
    return f'<img alt="" style="max-width:100%" src="data:image/svg+xml;base64,{data}"/>'
