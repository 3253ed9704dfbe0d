"""Multilayer perceptrons: records, layers, sweeps, derivatives, training."""
