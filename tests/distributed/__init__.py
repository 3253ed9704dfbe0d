"""Tests of deltajit.distributed."""
