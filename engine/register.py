"""Importing this module registers our tasks, model sizes and loss with fairseq."""

from . import criterion, models, tasks

__all__ = ["criterion", "models", "tasks"]
