"""Referring tasks, each the whole story of one kind of question; start with `task.py`."""

from . import mask, people, rec, rhrc, rkpt, rpar, s1  # noqa: F401  (importing a task registers it)
from .task import Reading, Target, Task, build, known, names, prompts

__all__ = ["Reading", "Target", "Task", "build", "known", "names", "prompts"]
