"""Importing this module registers our tasks, model sizes, loss and optimizer with fairseq."""

from . import criterion, models, muon, tasks

__all__ = ["criterion", "models", "muon", "tasks"]
