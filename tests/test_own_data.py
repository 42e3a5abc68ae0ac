"""docs/own-data.md does what it says: its lines become files, its commands run one after the other."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from converted import save_picture

from refhcm import cli
from refhcm.data.converters import find
from refhcm.data.converters.own import COLUMNS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "own-data.md").read_text("utf-8")


def blocks():
    """The indented lines of the page, continued ones joined."""
    text = PAGE.replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


def lines_of_the_page():
    return [json.loads(line) for line in blocks() if line.startswith("{")]


def commands():
    return [line for line in blocks() if re.match(r"(refhcm|python|DATA=)", line)]


def save_data(folder):
    lines = lines_of_the_page()
    for name in {line["image"] for line in lines}:
        save_picture(folder / name, (400, 420), shade=30 * int(Path(name).stem))
    (folder / "people.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_page_names_every_column_and_option():
    for name, others in COLUMNS.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
        told = set(re.findall(r"`(\w+)`", row.split("|")[2]))
        assert told <= set(others) | {"x1", "xmin"}, name
    for option in find("own").options:
        assert f"`--{option.name}" in PAGE


def test_lines_of_the_page_convert_and_hold_no_fault(tmp_path, capsys):
    data = save_data(tmp_path / "mydata")
    out = tmp_path / "out"
    arguments = ["convert", "own", "--source", str(data), "--out", str(out), "--val-share", "0.2", "--quiet"]
    assert cli.main(arguments) == 0
    for split in ("train", "val"):
        assert cli.main(["validate", str(out / f"{split}.tsv"), "--quiet"]) == 0
    with (data / "people.jsonl").open("a") as file:
        file.write('{"image": "photos/9.jpg", "text": "nobody", "box": [1, 2, 3, 4]}\n')
    capsys.readouterr()
    assert cli.main(arguments) == 0  # somebody's mistake, but the other lines are written
    assert "line 7 of people.jsonl" in capsys.readouterr().out
    assert (out / "problems.txt").read_text().startswith("people.jsonl, line 7: a file is missing: ")
    assert len((out / "train.tsv").read_text().splitlines()) == 5
    (data / "people.jsonl").write_text('{"image": "photos/9.jpg", "text": "nobody", "box": [1, 2, 3, 4]}\n')
    assert cli.main(arguments) == 1 and "None of the 1 lines" in capsys.readouterr().err


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path):
    pytest.importorskip("hydra")
    save_data(tmp_path / "mydata")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, command in (("python", ""), ("refhcm", "-m refhcm.cli ")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command}"$@"\n')
        (tools / name).chmod(stat.S_IRWXU)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHON": str(tools / "python"),
                   "EPOCHS": "1", "WORKERS": "0", "OMP_NUM_THREADS": "1",
                   "TASKS": "rec rhrc"}  # fmt: skip  # the only caption of the page is not in val.tsv
    told = commands()
    assert len(told) == 7
    for command in told:
        here = command.replace("mydata", str(tmp_path / "mydata")).replace("runs/own", str(tmp_path / "run"))
        here = here.replace("--out out", f"--out {tmp_path / 'out'}")
        done = subprocess.run(["bash", "-c", here], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "box" in done.stdout and list((tmp_path / "out").glob("*.png"))
