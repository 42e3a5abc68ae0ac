"""Rows that cannot be used: each is named once, and too many of them stop a run with a report.

They are counted where batches arrive, in the process that trains, so that the count and the moment of stopping are the
same with any number of loader processes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from ..errors import RefHCMError
from .row_file import BadRow

BAD_SHARE = 0.001
"""The share of a file's rows that may be set aside."""
_NAMED = 20
"""Rows named one by one, in the log and in the report."""
logger = logging.getLogger(__name__)


class FaultTally:
    """The rows of a run that were set aside; `sizes` maps the path of a file to its number of rows, of which `share`
    (default: `BAD_SHARE`) may be."""

    def __init__(self, sizes: Mapping[str, int], share: float | None = None) -> None:
        self.sizes, self.share = dict(sizes), BAD_SHARE if share is None else share
        self.found: dict[str, dict[int, str]] = {path: {} for path in self.sizes}

    def __len__(self) -> int:
        return sum(map(len, self.found.values()))

    def add(self, faults: Iterable[BadRow]) -> None:
        """Count rows, each once; RefHCMError with a report where a file has more than its share."""
        for fault in faults:
            rows = self.found.setdefault(fault.path, {})
            if fault.line in rows:
                continue
            rows[fault.line] = fault.why
            if len(self) <= _NAMED:
                more = "; further ones are counted, and not named" if len(self) == _NAMED else ""
                logger.warning("set aside: %s%s", fault, more)
            self._check(fault.path)

    def rows(self) -> list[BadRow]:
        """All rows that were set aside, in order of files and lines: what another process adds to its own tally."""
        return [BadRow(path, line, rows[line]) for path, rows in self.found.items() for line in sorted(rows)]

    def _check(self, path: str) -> None:
        rows, size = self.found[path], self.sizes.get(path, 0)
        if len(rows) > int(self.share * size):
            raise too_many(path, size, rows, self.share)


def too_many(path: str, size: int, rows: Mapping[int, str], share: float) -> RefHCMError:
    """The report on rows (line -> what is wrong) of a file of `size` rows, of which only a `share` may be wrong."""
    named = "\n".join(f"line {line}: {rows[line]}" for line in sorted(rows)[:_NAMED])
    return RefHCMError(
        f"{len(rows):,} of {size:,} rows of {path} cannot be used, more than the {int(share * size):,} "
        f"({share:.1%}) that may be set aside; mend or remove them (refhcm validate lists all):\n{named}"
    )
