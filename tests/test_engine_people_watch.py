"""Validation asks about masks, regions, several people, everybody and nobody, and scores as evaluation does."""

import pytest

pytest.importorskip("hydra")
pytest.importorskip("refhcm.engine")

import refhcm
from refhcm.engine.progress import headlines, short
from refhcm.inference.evaluation import evaluate
from refhcm.metrics.records import read_records
from refhcm.models import export
from refhcm.tests.test_engine_people import folder, grown  # noqa: F401
from refhcm.tests.test_engine_training import data, train  # noqa: F401

HUMAR = ("grec/people_micro_f1@0.5", "res/mask_miou", "rkpt/keypoints_pck@0.2")
"""Detection, segmentation and pose: what the line of a joint training shows."""


@pytest.fixture(scope="module")
def run(folder, grown, tmp_path_factory):  # noqa: F811
    place = tmp_path_factory.mktemp("runs") / "watched"
    options = (
        "--init-from", str(grown / "new"), "--vocabulary", str(grown / "new"), "--masks", str(folder / "masks"),
        "--nobody", "--validate-answers", "50", "--pictures", "7", "--max-epoch", "2",
        "--best-checkpoint-metric", HUMAR[1], "--maximize-best-checkpoint-metric",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        train(patch, folder, place, *options, source="people.json")
    return place


def test_every_task_is_asked_about_rows_of_its_own(run):
    last = read_records(run / "metrics.jsonl", "valid")[-1]
    asked = {name.removesuffix("/answers"): value for name, value in last.items() if name.endswith("/answers")}
    assert asked == {"rec": 12, "res": 12, "roi": 8, "s1_mask": 12, "grec": 16, "people": 4, "rkpt": 12}
    assert {
        *HUMAR, "rec/presence_t_acc", "rec/presence_auc", "roi/region_person_miou", "s1_mask/codes_acc",
        "people/people_ap", "grec/people_n_acc", "res/box_acc@0.5",
    } <= set(last)  # fmt: skip
    assert set(HUMAR) <= set(headlines(last)) and set(HUMAR) <= set(short(last, training=False))


@pytest.mark.parametrize("task, protocol", [
    ("res", "presence"), ("roi", "own"), ("grec", "own"), ("people", "own"), ("rec", "presence"),
])  # fmt: skip
def test_figures_are_those_of_evaluation(run, folder, grown, tmp_path, task, protocol):  # noqa: F811
    paths, masks = (str(run / "checkpoint_last.pt"), str(tmp_path)), ["--masks", str(folder / "masks")]
    export.main([*paths, "--vocabulary", str(grown / "new"), *masks, "--dtype", "float32"])
    model, last = refhcm.load(tmp_path), read_records(run / "metrics.jsonl", "valid")[-1]
    found = evaluate(
        model, folder / "valid" / "people.tsv", "person", task, progress=False, batch_size=4, protocol=protocol
    )
    wanted = {f"{task}/{name.replace('/', '_')}": value for name, value in found.scores.items()}
    told = {name: value for name, value in last.items() if name in wanted}
    assert len(told) >= 6 and found.samples == last[f"{task}/answers"]
    assert told == pytest.approx({name: wanted[name] for name in told}, abs=1e-4)


def test_pages_show_every_task(run):
    newest = max(path for path in (run / "pictures").glob("0*.html"))
    shown = newest.read_text()
    assert all(f">{task}<" in shown for task in ("rec", "res", "roi", "s1_mask", "grec", "people", "rkpt"))


def test_a_single_task_takes_a_pair_of_files(monkeypatch, folder, grown, tmp_path):  # noqa: F811
    """Of our own kind, which alone knows masks."""
    for task, metric in (("res", "mask_miou"), ("grec", "people_f1_score@0.5")):
        options = (
            "--init-from", str(grown / "new"), "--vocabulary", str(grown / "new"), "--masks", str(folder / "masks"),
            "--validate-answers", "4", "--max-update", "1", "--pictures", "0",
        )  # fmt: skip
        train(monkeypatch, folder, tmp_path / task, *options, task=task, source="train/people.tsv,valid/people.tsv")
        assert f"{task}/{metric}" in read_records(tmp_path / task / "metrics.jsonl", "valid")[-1]
