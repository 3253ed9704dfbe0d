"""The version: here alone, so that a copy or a zip that nobody installed knows its own."""

VERSION = "0.1.0"
