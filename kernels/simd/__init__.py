"""Vector registers, views of buffers, and elementary functions."""
