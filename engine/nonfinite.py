"""Updates whose loss or gradient is not finite: they are skipped, counted and named, and too many stop the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import RefHCMError

WINDOW = 1000
"""Updates that `--max-nonfinite` speaks of."""
_NAMED, _ROWS = 20, 64
"""Skipped updates that the report names, and rows of each."""
logger = logging.getLogger(__name__)


class NonFinite:
    """The skipped updates of a run, of which `limit` among the latest `WINDOW` are allowed."""

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise RefHCMError(f"--max-nonfinite is {limit}: it must be 0 or more.")
        self.limit = limit
        self.steps = self.total = 0
        self.recent: list[int] = []
        self.said: list[str] = []

    def skip(self, update: int, what: str, rows: Sequence[str], tell: bool = True) -> None:
        """Count an update that was tried and skipped, and name it in the log (`tell`); `what` was not finite over
        `rows`. RefHCMError past the limit.
        """
        self.total += 1
        self.recent = [step for step in self.recent if step > self.steps - WINDOW] + [self.steps]
        more = f" and {len(rows) - _ROWS} more" if len(rows) > _ROWS else ""
        sentence = f"update {update + 1}: the {what} is not finite; rows {', '.join(rows[:_ROWS])}{more}"
        self.said = [*self.said, sentence][-_NAMED:]
        if tell:
            logger.warning("skipped %s", sentence)
        if len(self.recent) > self.limit:
            named = "\n".join(self.said[-len(self.recent) :])
            raise RefHCMError(
                f"{len(self.recent)} of the latest {min(self.steps, WINDOW):,} updates were skipped because their loss "
                f"or gradient was not finite, more than the {self.limit} of --max-nonfinite: look into these rows, or "
                f"train with a lower --lr, with --clip-norm or in fp32.\n{named}"
            )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"steps": self.steps, "total": self.total, "recent": self.recent, "said": self.said}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.steps, self.total = state["steps"], state["total"]
        self.recent, self.said = list(state["recent"]), list(state["said"])
