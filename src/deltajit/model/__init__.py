"""Describe networks: architecture, initial weights, checked arguments, custom functions."""
