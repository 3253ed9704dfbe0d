"""Differentiable circuits: functions of scalars, traced to graphs, lowered to programs."""
