"""What a conversion did: rows, people and pictures per split, what was left out and why, and how that compares with
the official numbers."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..person_file import PersonRow, numbers

NAMED = 5
"""How many of the rows that were left out for one reason are named."""
REPORT_FILE = "report.json"


class Report:
    """Counts of one conversion.

    `row` counts what is written, `read` what the source holds before anything is left out, `skip` what is left out,
    `without` what rows are written without.
    `expect` states the source's official numbers, under the names that are given to `read`.
    """

    def __init__(self, dataset: str, licence: str) -> None:
        self.dataset, self.licence = dataset, licence
        self.rows: dict[str, Counter[str]] = defaultdict(Counter)
        self._people: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self._pictures: dict[str, set[str]] = defaultdict(set)
        self.found: dict[str, Counter[str]] = defaultdict(Counter)
        self.official: dict[str, dict[str, int]] = {}
        self.skipped: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = defaultdict(list)
        self.lost: dict[str, dict[str, None]] = defaultdict(dict)
        self.notes: list[str] = []

    def row(self, split: str, row: PersonRow) -> None:
        """Count a row that is written."""
        counts = self.rows[split]
        counts["rows"] += 1
        self._pictures[split].add(row.image_id)
        if row.everybody:
            counts["everybody"] += 1
            return
        counts["regions"] += row.text is None and not row.points
        counts["nobody"] += not row.people
        counts["several"] += len(row.people) > 1
        self._people[split].update((row.image_id, numbers(person.box)) for person in row.people)

    def has(self, split: str, image_id: str) -> bool:
        """Whether rows of a picture were written to a split."""
        return image_id in self._pictures[split]

    def read(self, split: str, what: str, count: int = 1) -> None:
        """Count something in the source, such as its `expressions`."""
        self.found[split][what] += count

    def expect(self, official: Mapping[str, Mapping[str, int]]) -> None:
        """Split -> what -> the number in the official files."""
        self.official = {split: dict(counts) for split, counts in official.items()}

    def skip(self, reason: str, where: str) -> None:
        """Count something that is left out; `where` names it in the source."""
        self.skipped[reason] += 1
        if len(self.examples[reason]) < NAMED:
            self.examples[reason].append(where)

    def without(self, what: str, where: str) -> None:
        """Count, once, something like a `mask` that cannot be used although the rest of what `where` names can."""
        self.lost[what][where] = None

    def note(self, sentence: str) -> None:
        """Say something else that a reader of the result should know, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def counts(self) -> dict[str, dict[str, int]]:
        """Split -> rows, people (different boxes), pictures; how many rows ask by region, mean nobody or several, or
        list everybody (whom `people` does not count)."""
        return {
            split: {
                "rows": counts["rows"],
                "people": len(self._people[split]),
                "pictures": len(self._pictures[split]),
                "regions": counts["regions"],
                "nobody": counts["nobody"],
                "several": counts["several"],
                "everybody": counts["everybody"],
            }
            for split, counts in self.rows.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, as `report.json` holds it."""
        reasons = {
            reason: {"count": count, "first": self.examples[reason]} for reason, count in self.skipped.most_common()
        }
        return {
            "dataset": self.dataset,
            "licence": self.licence,
            "written": self.counts(),
            "found_in_source": {split: dict(counts) for split, counts in self.found.items()},
            "official": self.official,
            "skipped": {"total": self.skipped.total(), "reasons": reasons},
            "written_without": {
                what: {"count": len(places), "first": list(places)[:NAMED]} for what, places in self.lost.items()
            },
            "notes": self.notes,
        }

    def save(self, folder: Path) -> Path:
        """Write `report.json` into the folder."""
        path = folder / REPORT_FILE
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8", errors="backslashreplace")  # names in a source may hold half characters
        return path

    def table(self) -> str:
        """The same for a reader."""
        lines = [f"{self.dataset}: {self.licence}", ""]
        lines += _columns(self.counts())
        if self.found:
            lines += ["", "found in the source (official number):"]
            lines += [f"  {line}" for line in self._comparison()]
        lines += ["", f"left out: {self.skipped.total():,}"]
        for reason, count in self.skipped.most_common():
            more = ", ..." if count > len(self.examples[reason]) else ""
            lines.append(f"  {count:>9,}  {reason}: {', '.join(self.examples[reason])}{more}")
        for what, places in self.lost.items():
            more = ", ..." if len(places) > NAMED else ""
            named = ", ".join(list(places)[:NAMED])
            told = f"{what}s that cannot be used, without which rows are written"
            lines.append(f"{told}: {len(places):,} ({named}{more})")
        return "\n".join(lines + [f"note: {note}" for note in self.notes])

    def _comparison(self) -> Iterable[str]:
        splits = list(dict.fromkeys([*self.found, *self.official]))
        for split in splits:
            told = []
            official = self.official.get(split, {})
            for what in dict.fromkeys([*self.found.get(split, {}), *official]):
                count, wanted = self.found[split][what], official.get(what)
                verdict = "" if wanted is None else " (as official)" if count == wanted else f" (OFFICIAL: {wanted:,})"
                told.append(f"{count:,} {what}{verdict}")
            yield f"{split:<10} {', '.join(told)}"


def _columns(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    names = ("rows", "people", "pictures", "regions", "nobody", "several", "everybody")
    width = max([len("split"), *map(len, counts)]) + 2
    lines = ["split".ljust(width) + "".join(f"{name:>10}" for name in names)]
    for split, row in counts.items():
        lines.append(split.ljust(width) + "".join(f"{row[name]:>10,}" for name in names))
    return lines
