"""Differentiable circuits: functions of scalars, traced to a graph, lowered to a program."""
