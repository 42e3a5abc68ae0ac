"""Samples equal the published ones token for token, and a batch holds what docs/design.md says."""

import numpy as np
import pytest
import torch

from refhcm import tasks
from refhcm.data.annotation import Annotation, Question
from refhcm.data.samples import build_sample, collate
from refhcm.data.text import scoring_captions, training_captions
from refhcm.data.vocabulary import PAD
from refhcm.tasks.task import Target
from refhcm.tests.golden_data import golden_json
from refhcm.tests.published_vocabulary import published_vocabulary

SIZES = golden_json("preprocess/preprocess")["image_sizes_wh"]
TASKS = {
    "rec": ("rec", {}),
    "rec_max_src_length_5": ("rec", {"max_words": 5}),
    "rkpt": ("rkpt", {}),
    "rpar": ("rpar", {}),
    "rpar_full_mask": ("rpar_full_mask", {}),
    "rhrc_valid": ("rhrc", {}),
    "rhrc_train_max_tgt_length_20": ("rhrc", {"max_target_words": 20}),
}


def cases(kind):
    return [case for case in golden_json("preprocess/preprocess")["cases"] if case["kind"] == kind]


def pair(case):
    """The question and answer of a published row; its training takes all captions, `&&` included, as one."""
    row, size = case["row"], tuple(SIZES[case["image"]])
    box = tuple(float(v) for v in row["box"].split(","))
    keypoints = codes = None
    if "keypoints" in row:
        points = np.array(row["keypoints"].split(","), np.float64).reshape(17, 2)
        keypoints = np.concatenate([points, 2 * points.any(axis=1, keepdims=True)], axis=1)
    if "parsing_code" in row:
        codes = tuple(int(code) for code in row["parsing_code"].split(","))
    captions = ()
    if "caption" in row:
        clean = scoring_captions if case["kind"] == "rhrc_valid" else training_captions
        captions = ("&&".join(clean(row["caption"])),)
    text = row.get("text")
    if case["kind"] == "rpar" and text == "None":  # the published full-mask dataset takes this literally
        text = None
    question = Question(size, text, box if text is None else None)
    return question, Annotation(size, box, keypoints, codes, captions=captions)


def published_samples(kind):
    name, options = TASKS[kind]
    task = tasks.build(name, published_vocabulary(), clamp=False, **options)
    image = torch.zeros(3, 4, 4)
    return [
        build_sample(task, *pair(case), image, str(case["image"]), str(i))
        for i, case in enumerate(cases(kind))
    ]


# -- published samples ----------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", TASKS)
def test_samples_equal_the_published_ones(kind):
    expected = cases(kind)
    assert len(expected) == 8
    for sample, case in zip(published_samples(kind), expected, strict=True):
        for key in ("source", "target", "prev_output_tokens"):
            assert sample[key].tolist() == case[key], (kind, case["row"], key)


def test_block_of_the_published_full_mask():
    golden = golden_json("preprocess/preprocess")
    batch = collate(published_samples("rpar_full_mask"))
    assert batch["net_input"]["blocks"].tolist() == [[golden["collated_full_mask_position"]]] * 8


def test_batch_equals_the_published_collation():
    golden = golden_json("preprocess/preprocess")["collated_rkpt"]
    samples = published_samples("rkpt")
    batch = collate([samples[i] for i in (0, 1, 6)])
    found = {**batch["net_input"], "target": batch["target"]}
    for key in ("src_tokens", "src_lengths", "prev_output_tokens", "target"):
        assert found[key].tolist() == golden[key], key


def test_places_outside_are_unknown_only_where_asked():
    case = next(c for c in cases("rec") if 3 in c["target"])
    vocabulary = published_vocabulary()
    clamped = tasks.build("rec", vocabulary).target(pair(case)[1]).outputs
    assert 3 not in clamped and clamped[0] == vocabulary.bin(0)


# -- batches --------------------------------------------------------------------------------------------
class Echo:
    """A task whose sequences are given."""

    name = "echo"
    needs = ()

    def __init__(self, source, target):
        self.source, self.made = source, target

    def instruction(self, question):
        return self.source

    def answered(self, question, annotation):
        return annotation

    def target(self, annotation):
        return self.made


def sample(key="a", source=(5, 6), inputs=(0, 7, 8), outputs=(7, 8, 2), blocks=(), name="1"):
    task = Echo(list(source), Target(list(inputs), list(outputs), list(blocks)))
    image = torch.full((3, 2, 2), float(ord(key[0])))
    return build_sample(task, Question((9, 9), "x"), Annotation((9, 9)), image, key, name)


def test_samples_of_one_picture_share_it():
    batch = collate([[sample("b"), sample("a")], [sample("b")], sample("c")])
    net = batch["net_input"]
    assert net["image_index"].tolist() == [0, 1, 0, 2]
    assert net["patch_images"][:, 0, 0, 0].tolist() == [ord("b"), ord("a"), ord("c")]
    assert net["patch_masks"].tolist() == [True] * 4


def test_rows_are_padded_on_the_right():
    batch = collate([sample(), sample(source=(5,), inputs=(0,), outputs=(2,), name="2")])
    net = batch["net_input"]
    assert net["src_tokens"].tolist() == [[0, 5, 6, 2], [0, 5, 2, PAD]]
    assert net["src_lengths"].tolist() == [4, 3]
    assert net["prev_output_tokens"].tolist() == [[0, 7, 8], [0, PAD, PAD]]
    assert batch["target"].tolist() == [[7, 8, 2], [2, PAD, PAD]]
    assert (batch["id"], batch["nsentences"], batch["ntokens"]) == (["1", "2"], 2, 4)
    assert len(batch["annotations"]) == len(batch["questions"]) == len(batch["tasks"]) == 2


def test_blocks_are_filled_up_with_minus_one():
    batch = collate([sample(blocks=[(1, 2)]), sample(), sample(blocks=[(0, 0), (1, 1)])])
    assert batch["net_input"]["blocks"].tolist() == [
        [[1, 2], [-1, -1]],
        [[-1, -1], [-1, -1]],
        [[0, 0], [1, 1]],
    ]
    assert collate([sample()])["net_input"]["blocks"].shape == (1, 0, 2)


def test_targets_without_loss_are_not_counted():
    assert collate([sample(outputs=(PAD, 8, 2))])["ntokens"] == 2


def test_nothing_in_nothing_out():
    assert collate([]) == {} and collate([[]]) == {}
