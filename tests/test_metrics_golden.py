"""Every metric equals the published implementation, and the numbers of the reference tools."""

import numpy as np
import pytest

from refhcm.metrics.boxes import BoxMeter, box_iou, published_box_hits
from refhcm.metrics.captions import DocumentFrequencies, bleu_and_rouge, cider_d
from refhcm.metrics.keypoints import KeypointMeter, coco_oks, keypoint_ap, published_oks
from refhcm.metrics.parsing import (
    class_iou,
    confusion,
    mean_accuracy,
    mean_iou,
    mean_precision,
    pixel_accuracy,
)
from refhcm.tests.golden_data import golden_arrays, golden_json


@pytest.fixture(scope="module")
def arrays():
    return golden_arrays("metrics/metrics")


@pytest.fixture(scope="module")
def values():
    return golden_json("metrics/metrics")


# -- the published implementation ----------------------------------------------------------------------
@pytest.mark.parametrize("threshold", [0.5, 0.75])
def test_box_hits_equal_the_published_ones(arrays, threshold):
    hits = published_box_hits(arrays["rec.hyps"], arrays["rec.refs"], threshold)
    assert hits.astype(float).tolist() == arrays[f"rec.hit_at_{threshold}"].tolist()


@pytest.mark.parametrize("task, hits", [("rec_eval", "hits"), ("rkpt_eval", "box_hits_at_0.5")])
def test_box_hits_of_whole_runs_equal_the_published_ones(values, task, hits):
    run = values[task]
    assert published_box_hits(run["boxes"], run["region_coords"]).astype(float).tolist() == run[hits]


def test_keypoint_similarity_equals_the_published_one(arrays):
    predicted, truth = (arrays[f"oks.{name}"].reshape(-1, 17, 2) for name in ("hyps", "refs"))
    ours = np.array([published_oks(*row) for row in zip(predicted, truth, arrays["oks.boxes"], strict=True)])
    np.testing.assert_allclose(ours, arrays["oks.score"], atol=2e-7)
    for index, hits in enumerate(arrays["oks.hits_at_0.50_to_0.95"]):
        threshold = 0.5 + 0.05 * index
        clear = np.abs(ours - threshold) > 1e-6
        assert ((ours >= threshold) == hits.astype(bool))[clear].all()


def test_keypoint_hits_of_a_whole_run_equal_the_published_ones(values):
    run = values["rkpt_eval"]
    meter = KeypointMeter()
    for predicted, truth, box, hit in zip(
        run["pred_keypoints"], run["keypoints"], run["region_coords"], run["hits_at_0.5"], strict=True
    ):
        points = np.reshape(truth, (17, 2))
        labels = np.column_stack((points, 2.0 * (points != 0).any(axis=1)))
        assert (published_oks(np.reshape(predicted, (17, 2)), points, box) >= 0.5) == hit
        meter.add(np.reshape(predicted, (17, 2)), labels, box)
    assert meter.result()["published_oks@0.5"] == pytest.approx(np.mean(run["hits_at_0.5"]))


def test_part_map_scores_equal_the_published_ones(arrays, values):
    matrix = confusion(arrays["parsing.pred"], arrays["parsing.gt"])
    assert matrix.tolist() == arrays["parsing.confusion"].tolist()
    for case, counts in (("parsing", matrix), ("parsing_sparse", values["parsing_sparse"]["confusion"])):
        assert mean_iou(counts) == pytest.approx(values[case]["miou"], abs=1e-12)
        assert pixel_accuracy(counts) == pytest.approx(values[case]["pacc"], abs=1e-12)
        assert mean_precision(counts) == pytest.approx(values[case]["macc"], abs=1e-12)


def test_part_map_scores_of_a_whole_run_equal_the_published_ones():
    maps = golden_arrays("vqgan/io")
    run = golden_json("vqgan/rpar_eval")
    matrix = confusion(maps["eval_pred"], maps["eval_gt"])
    assert matrix.tolist() == maps["eval_confusion"].tolist()
    assert mean_iou(matrix) == pytest.approx(run["miou"], abs=1e-12)
    assert mean_precision(matrix) == pytest.approx(run["macc"], abs=1e-12)


def test_caption_scores_equal_the_published_ones(values):
    case = values["cider_d"]
    hypotheses, references = case["hypotheses"], case["references"]
    np.testing.assert_allclose(cider_d(hypotheses, references), case["corpus_mode"]["per_item"], atol=1e-9)
    first = cider_d(hypotheses[:10], references[:10])
    np.testing.assert_allclose(first, case["corpus_mode_first10"]["per_item"], atol=1e-9)
    table = DocumentFrequencies.of(case["df_corpus_references"])
    assert table.documents == case["df_ref_len"]
    np.testing.assert_allclose(cider_d(hypotheses, references, table), case["df_mode"]["per_item"], atol=1e-9)


def test_caption_scores_of_a_whole_run_equal_the_published_ones(values):
    run = values["rhrc_eval"]
    table = DocumentFrequencies.of(values["cider_d"]["df_corpus_references"])
    scores = [cider_d(run["hypotheses"], run["references"], each) for each in (None, table)]
    assert any(np.allclose(each, run["cider_d_per_item"], atol=1e-9) for each in scores)


# -- pycocotools 2.0.11 and pycocoevalcap 1.2 ----------------------------------------------------------
def test_overlap_of_two_squares():
    assert box_iou([[0, 0, 10, 10]], [[5, 5, 15, 15]]) == pytest.approx(25 / 175)


def _person(count=1, labelled=range(17)):
    truth = np.zeros((17, 3))
    truth[:, :2] = np.random.default_rng(3).uniform(20, 90, (17, 2))
    truth[list(labelled), 2] = 2
    return [truth] * count


def _right(points, pixels):
    return points + np.array([pixels, 0, 0])


@pytest.mark.parametrize(
    "shift, oks, ap",
    [(0, 1.0, 1.0), (1, 0.980279, 1.0), (3, 0.849926, 0.7), (5, 0.683687, 0.4), (8, 0.481927, 0.0)],
)
def test_a_shifted_pose_scores_as_in_coco(shift, oks, ap):
    (truth,) = _person()
    moved = _right(truth, shift)
    assert coco_oks(moved, truth, 3000) == pytest.approx(oks, abs=1e-6)
    assert keypoint_ap([moved], [1.0], [truth], [3000], [(0, 0, 60, 90)])["ap"] == pytest.approx(ap)


def test_similarity_follows_area_and_labels():
    (truth,) = _person()
    assert coco_oks(_right(truth, 5), truth, 6000) == pytest.approx(0.805021, abs=1e-6)
    (truth,) = _person(labelled=(5, 6, 11))
    assert coco_oks(_right(truth, 5), truth, 3000) == pytest.approx(0.868530, abs=1e-6)


def test_nothing_labelled_has_no_coco_score():
    (truth,) = _person(labelled=())
    assert np.isnan(coco_oks(truth, truth, 3000))
    assert all(np.isnan(v) for v in keypoint_ap([truth], [1.0], [truth], [3000], [(0, 0, 60, 90)]).values())


def test_no_answer_at_all_scores_zero():
    (truth,) = _person()
    assert keypoint_ap([None], [1.0], [truth], [3000], [(0, 0, 60, 90)])["ap"] == 0.0


def test_without_ranking_average_precision_is_about_the_square_of_the_accuracy():
    count = 1000
    truth = _person(count)
    right = np.random.default_rng(0).random(count) < 0.75
    predicted = [points if ok else _right(points, 500) for points, ok in zip(truth, right, strict=True)]
    args = (truth, [3000] * count, [(0, 0, 60, 90)] * count)
    assert keypoint_ap(predicted, [1.0] * count, *args)["ap"] == pytest.approx(0.57, abs=0.05)
    assert keypoint_ap(predicted, right.astype(float), *args)["ap"] == pytest.approx(right.mean(), abs=0.01)


def test_part_map_scores_worked_by_hand():
    truth = np.array([[0, 0, 1], [0, 2, 1], [2, 2, 255]])
    predicted = np.array([[0, 1, 1], [0, 2, 0], [2, 0, 1]])
    matrix = confusion(predicted, truth, classes=4)
    assert matrix[:3, :3].tolist() == [[2, 1, 0], [1, 1, 0], [1, 0, 2]]
    np.testing.assert_allclose(class_iou(matrix), [0.4, 1 / 3, 2 / 3, np.nan])
    assert mean_iou(matrix) == pytest.approx(0.4667, abs=1e-4)
    assert pixel_accuracy(matrix) == 0.625
    assert mean_accuracy(matrix) == pytest.approx(0.6111, abs=1e-4)
    assert mean_precision(matrix) == pytest.approx(0.6667, abs=1e-4)


HYPOTHESES = ["a man in a red shirt", "a woman holding an umbrella", "a dog runs in the park"]
REFERENCES = [
    ["a man in a red shirt is riding a bike", "the man with the red shirt"],
    ["a woman holding an umbrella"],
    ["two kids playing in the park with a dog"],
]


def test_caption_scores_of_the_reference_tools():
    np.testing.assert_allclose(cider_d(HYPOTHESES, REFERENCES), [4.178306, 10.0, 2.655145], atol=1e-6)
    pytest.importorskip("pycocoevalcap")
    scores = bleu_and_rouge(HYPOTHESES, REFERENCES)
    assert [scores[f"bleu{n}"] for n in (1, 2, 3, 4)] == pytest.approx(
        [0.788916, 0.752873, 0.701725, 0.652282], abs=1e-6
    )
    assert scores["rouge_l"] == pytest.approx(0.701241, abs=1e-6)


def test_known_corners_of_cider():
    assert cider_d(["a man"], [["a man"]]) == [0.0]  # one sample: every n-gram is in every sample
    np.testing.assert_allclose(
        cider_d(["a man a man a man", "a dog"], [["a man"], ["a dog"]]), [1.222493, 5.0], atol=1e-6
    )
    texts = ["red shirt man", "left woman", "girl", "a tall man with a hat on the left"]
    np.testing.assert_allclose(cider_d(texts, [[text] for text in texts]), [7.5, 5.0, 2.5, 10.0], atol=1e-6)


def test_a_box_meter_counts_missing_answers_as_wrong():
    meter = BoxMeter()
    meter.add((0, 0, 10, 10), (0, 0, 10, 10))
    meter.add(None, (0, 0, 10, 10))
    meter.add((float("nan"), 0, 1, 1), (0, 0, 10, 10))
    meter.add((10, 10, 0, 0), (0, 0, 10, 10))
    assert meter.result()["acc@0.5"] == meter.result()["published_acc@0.5"] == 0.25
