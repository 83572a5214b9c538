"""Drift of a model in training from a reference: the monitor, its writers, and wrappers of training packages."""

from latentcmp.monitor.drift import DriftMonitor

__all__ = ["DriftMonitor"]
