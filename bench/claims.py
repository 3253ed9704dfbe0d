"""What is claimed of the figures, and whether it holds: a claim that doesn't fails the run."""

import math
from typing import NamedTuple

import pytest

from bench import machine
from bench.groups import MORE, Figure


class Claim(NamedTuple):
    """One figure of one network or circuit, and the limits that it is held to."""

    text: str
    subject: str
    figure: Figure
    least: float = -math.inf
    most: float = math.inf

    @property
    def holds(self):
        """Whether the figure may lie within the limits, for all that its interval says."""
        return self.figure.low <= self.most and self.figure.high >= self.least

    @property
    def limited(self):
        """Whether there is a limit at all: else the figure is for information."""
        return self.most < math.inf

    @property
    def limits(self):
        """Such as ``<= 3``, ``0.95 to 1.05``."""
        return f"{self.least:g} to {self.most:g}" if self.least > -math.inf else f"<= {self.most:g}"

    @property
    def excess(self):
        """How far the figure is outside of its limits, as a share of the nearer one."""
        value = self.figure.value
        return max(value / self.most - 1, 1 - value / self.least if self.least > -math.inf else -1)

    def sentence(self):
        """What a failed run says."""
        value, low, high = self.figure
        return (
            f"{self.text} is {value:.3g} (95 % interval {low:.3g} to {high:.3g}) for "
            f"{self.subject}, where {self.limits} is claimed: off by {self.excess:.0%}, "
            f"on this CPU: {machine.cpu_name()}"
        )


class Claims:
    """All claims of a run."""

    def __init__(self, report_only):
        self.report_only, self.all = report_only, []

    def check(self, text, subject, measure, **limits):
        """Fail the test unless a claim holds, measured once more with more rounds if need be.

        measure : function of an effort, 1 or `MORE`, that returns a Figure, or one that is known.
        limits : least, most; without any the figure is for information.
        """
        known = isinstance(measure, Figure)
        claim = Claim(text, subject, measure if known else measure(1), **limits)
        if not (claim.holds or known):
            claim = claim._replace(figure=measure(MORE))
        self.all.append(claim)
        if not claim.holds and not self.report_only:
            pytest.fail(claim.sentence(), pytrace=False)

    def table(self):
        """Lines: a claim each, with the worst that it was made about; those without limits last."""
        rows = [("claim", "limit", "measured", "holds", "for; the worst, and its 95 % interval")]
        ordered = sorted(self.all, key=lambda claim: not claim.limited)
        for text in dict.fromkeys(claim.text for claim in ordered):
            same = [claim for claim in self.all if claim.text == text]
            worst = max(same, key=lambda claim: (not claim.holds, claim.excess))
            values = sorted(claim.figure.value for claim in same)
            measured = " to ".join(f"{v:.3g}" for v in dict.fromkeys((values[0], values[-1])))
            verdict = ("yes" if all(claim.holds for claim in same) else "NO") * worst.limited
            subject = f"{len(same)} of them" if len(same) > 1 else worst.subject
            if worst.limited:
                low, high = worst.figure.low, worst.figure.high
                subject = f"{worst.subject} ({low:.3g} to {high:.3g})"
            rows.append((text, worst.limits * worst.limited, measured, verdict, subject))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]

    def rows(self):
        """All claims, for JSON."""
        return [
            {"text": c.text, "subject": c.subject, "limits": c.limits * c.limited, "holds": c.holds}
            | c.figure._asdict()
            for c in self.all
        ]
