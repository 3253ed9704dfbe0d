"""Differentiable circuits, for jitted code: `Program` is what `deltajit.Circuit` has traced."""

from .interpreter import (
    Program,
    evaluate,
    hvp,
    largest_workspace,
    value_and_grad,
    vjp,
    workspace_size,
)

__all__ = [
    "Program",
    "evaluate",
    "hvp",
    "largest_workspace",
    "value_and_grad",
    "vjp",
    "workspace_size",
]
