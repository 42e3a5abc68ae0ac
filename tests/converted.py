"""Runs a converter on a tree that a test made, and reads what it wrote."""

import importlib
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from refhcm.data.converters.base import Options, run
from refhcm.data.dataset import ReferringDataset, SampleDataset
from refhcm.data.person_file import COLUMNS, POINTS
from refhcm.data.rows import OWN
from refhcm.data.samples import collate
from refhcm.data.validate import validate
from refhcm.tasks import build

NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8) | st.sampled_from(["\ud800", "a\x00.png", "../a.png", "photos", "1,2,3,4"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["size", "counts"]), inner),
    max_leaves=8,
)  # fmt: skip
"""Whatever JSON may hold in place of what is expected."""


def convert(name, source, out, module=None, **options):
    """(report, rows by split) of the converter `name`; options as in `Options`, its own ones with underscores."""
    found = importlib.import_module(f"refhcm.data.converters.{module or name}")
    (converter,) = (entry for entry in found.CONVERTERS if entry.name == name)
    general = {key: options.pop(key) for key in ("images", "pictures") if key in options}
    special = {key.replace("_", "-"): value for key, value in options.items()}
    report, files = run(converter, Options(Path(source), Path(out), special=special, **general))
    return report, {path.stem: rows_of(path) for path in files}


def check(path, task, vocabulary):
    """The samples of a task that a written file gives, after `validate` found nothing wrong with it."""
    found = validate(path)
    assert found.faults == 0, found.first
    data = SampleDataset(ReferringDataset(path, OWN), [build(task, vocabulary)], 16)
    samples = [sample for number in range(len(data)) for sample in data[number]]
    assert collate([samples])["target"].shape[0] == len(samples)
    return samples


def rows_of(path):
    """The rows of a file of ours, as fields by name."""
    rows = [line.split("\t") for line in Path(path).read_text("utf-8").split("\n")[:-1]]
    names = (*COLUMNS, *([POINTS] if len(rows[0]) > len(COLUMNS) else []))
    return [dict(zip(names, row, strict=True)) for row in rows]


def save_picture(path, size=(40, 30), shade=128, **options):
    """A picture of one colour at `path`; its folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, 90)).save(path, **options)
    return path


def save_labels(path, labels):
    """A grey PNG of the numbers in an array."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(labels, np.uint8)).save(path)
    return path


def numbers(field):
    """The numbers of a field."""
    return [float(value) for value in field.split(",")]
