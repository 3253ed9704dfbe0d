"""Activations that torch.nn has no module for.

They are classes of a module, so that `torch.save` finds them by name and `torch.jit.script` finds
their source. This module imports PyTorch, so it may be imported only where PyTorch is asked for.
"""

import torch


class Sin(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Compute the sine."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return sin(x)."""
        return torch.sin(x)


class Exp(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Compute the exponential function."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return exp(x)."""
        return torch.exp(x)


class Step(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Compute the step from 0 to 1, which is 0 at 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return 1 where x > 0, else 0, and NaN of NaN."""
        return x.clamp(0, 1).ceil()


class Gaussian(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Compute means, and variances from their logarithms."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the first half of x, the means, and exp of the second half, the variances."""
        mean, log_variance = x.chunk(2, -1)
        return torch.cat([mean, log_variance.exp()], -1)
