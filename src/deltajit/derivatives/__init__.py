"""Derivatives of a network that are taken at many directions, or at many points."""
