"""Keypoints as one block: written and read back alike, legal whatever the network says, decoded as they are learnt."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refhcm.data.annotation import KEYPOINT_NAMES, Annotation, Question
from refhcm.data.vocabulary import PAD, Vocabulary
from refhcm.data.vocabulary_file import describe_vocabulary, load_vocabulary
from refhcm.errors import RefHCMError
from refhcm.inference.answering import ask
from refhcm.inference.predictor import RefHCMPredictor
from refhcm.models import add_codes
from refhcm.models.abilities import Abilities
from refhcm.models.add_codes import grow
from refhcm.models.checkpoint import load_folder
from refhcm.models.hypothesis import Hypothesis
from refhcm.models.initial import start_pose
from refhcm.tasks import build, names
from refhcm.tasks.segments import KeypointsSegment, PoseSegment
from refhcm.tasks.task import Reading, Target

SIZE, BOX = (200, 100), (20.0, 10.0, 120.0, 90.0)


class Words:
    """A text tokenizer of which no more is asked than its size."""

    size = 300

    def encode(self, text):
        return [sum(map(ord, text)) % self.size, len(text)]

    def decode(self, ids):
        return ""


VOCABULARY = Vocabulary(Words(), num_codes=66, num_bins=101, label_codes=16, mark_start=16).with_pose(17, 48)
SEGMENT = PoseSegment(VOCABULARY, inside=True)
KEYPOINTS = st.lists(
    st.tuples(st.floats(BOX[0], BOX[2]), st.floats(BOX[1], BOX[3]), st.integers(0, 2)), min_size=17, max_size=17
)


def sure_of(tokens: list[int]) -> Hypothesis:
    """What decoding would give if it were sure of this answer."""
    first, spans = 1, SEGMENT.rule().block.spans
    ids = [token for span in spans for token in range(*span)]
    spread = torch.zeros(51, len(ids))
    for place, token in enumerate(tokens[first:]):
        spread[place, ids.index(token) if token != PAD else 5] = 1
    said = [VOCABULARY.bin_start if token == PAD else token for token in tokens]
    return Hypothesis(said, [float(token) for token in said], [0.0] * len(said), 0.0, {first: spread}, {})


@given(KEYPOINTS)
def test_what_is_written_is_read_back_to_half_a_bin(points):
    points = np.array(points, np.float32)
    target = Target([0], [], [])
    SEGMENT.extend(target, Annotation(SIZE, box=BOX, keypoints=points))
    seen = points[:, 2] > 0
    wanted = np.array(target.outputs[2:]).reshape(17, 3)  # behind the mark and the place that wants nothing
    assert ((wanted[:, :2] == PAD).all(1) == ~seen).all() and (wanted[:, 2] != PAD).all()
    reading = Reading(box=BOX)
    assert SEGMENT.read(sure_of([target.outputs[0], *target.outputs[2:]]), 0, SIZE, reading) == 52
    assert (reading.visibility == points[:, 2]).all()
    assert np.abs(reading.keypoints[:, :2] - points[:, :2])[seen].max(initial=0) <= 1.001  # a bin is 2 wide
    assert (reading.keypoints[~seen] == 0).all() and (reading.keypoints[seen, 2] == 1).all()


@given(st.tuples(*[st.integers(0, 99)] * 2), st.tuples(*[st.integers(1, 40)] * 2))
def test_every_query_has_something_to_say_and_places_lie_in_the_box(low, span):
    start = VOCABULARY.bin_start
    box = (*(start + x for x in low), *(start + min(x + more, 100) for x, more in zip(low, span, strict=True)))
    legal = SEGMENT.rule().block.legal(box)
    assert len(legal) == 51
    assert all(((box[0], box[2] + 1),) == spans for spans in legal[0::3])
    assert all(((box[1], box[3] + 1),) == spans for spans in legal[1::3])
    assert all((VOCABULARY.visibility_span,) == spans for spans in legal[2::3])
    anywhere = PoseSegment(VOCABULARY).rule().block.legal(box)
    assert all((VOCABULARY.bin_span,) == spans for i, spans in enumerate(anywhere) if i % 3 < 2)


# -- a network ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pose_model(tiny_model, tiny_vocabulary):
    vocabulary = tiny_vocabulary.with_masks(12, 48).with_pose(17, 48)
    model = grow(tiny_model, tiny_vocabulary, vocabulary)
    torch.manual_seed(8)
    with torch.no_grad():
        model.encoder.embed_tokens.weight[slice(*vocabulary.code_span)].normal_(std=0.3)
    return model, vocabulary


@pytest.fixture
def predictor(pose_model, tiny_label_map, tiny_masks):
    able = Abilities(tuple(names()), region_prompts=True)
    return RefHCMPredictor(*pose_model, tiny_label_map, masks=tiny_masks, abilities=able)


def questions(count):
    return [Question((64, 48), text=text) for text in ("the man on the left", "a woman", "third")[:count]]


def features_of(model, count):
    torch.manual_seed(1)
    with torch.inference_mode():
        return model.image_features(torch.rand(count, 3, 64, 64))


@pytest.mark.parametrize("name", ["rkpt", "s1", "s1_mask"])
def test_random_networks_answer_legally_in_few_steps(pose_model, name, monkeypatch):
    """Joints in the box, 17 places, and no decoder step per coordinate: four for the box, one for each block."""
    model, vocabulary = pose_model
    task = build(name, vocabulary, inside=True)
    steps, extend = [], model.decoder.extend
    monkeypatch.setattr(model.decoder, "extend", lambda *given, **more: steps.append(1) or extend(*given, **more))
    for reading in ask(model, task, features_of(model, 1), [0] * 3, questions(3)):
        x1, y1, x2, y2 = reading.box
        there = reading.keypoints[:, 2] > 0
        assert reading.keypoints.shape == (17, 3) and ((reading.visibility > 0) == there).all()
        places = reading.keypoints[there, :2]
        assert ((places >= (x1, y1)) & (places <= (x2, y2))).all()
        assert {"left_wrist", "nose"} <= set(reading.stretches)
    assert len(steps) == 4 + {"rkpt": 1, "s1": 2, "s1_mask": 3}[name]


def test_many_questions_at_once_are_answered_as_one_by_one(pose_model):
    model, vocabulary = pose_model
    task, asked, features = build("s1", vocabulary, inside=True), questions(3), features_of(model, 3)
    together = ask(model, task, features, range(3), asked)
    for row, reading in enumerate(together):
        (alone,) = ask(model, task, features, [row], asked[row : row + 1])
        assert alone.tokens == reading.tokens
        np.testing.assert_allclose(alone.keypoints, reading.keypoints, atol=1e-3)


def test_a_block_is_decoded_as_it_is_learnt(pose_model):
    """The likeliest tokens under teacher forcing, given the box, are those of the answer."""
    model, vocabulary = pose_model
    task = build("rkpt", vocabulary)
    features, (asked,) = features_of(model, 1), questions(1)
    (reading,) = ask(model, task, features, [0], [asked])
    block = task.grammar().rules[1].block
    inputs = [0, *reading.tokens[:4], block.begin, *block.queries]
    source = torch.tensor([[0, *task.instruction(asked), 2]])
    with torch.inference_mode():
        memory = model.encode(source, features, image_index=torch.zeros(1, dtype=torch.long))
        out = model.logits(model.decoder(torch.tensor([inputs]), memory, torch.tensor([[(6, 56)]])))[0, 6:]
    for place, spans in enumerate(block.legal()):
        (start, stop), = spans
        assert int(out[place, start:stop].argmax()) + start == reading.tokens[5 + place]


def test_predict_gives_how_well_each_joint_is_seen(predictor):
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 255, (48, 64, 3), np.uint8))
    answer = predictor(picture, "the man", tasks=("box", "keypoints"))
    assert answer.visibility.shape == (17,) and set(answer.visibility.tolist()) <= {0, 1, 2}
    assert answer.to_dict()["visibility"] == answer.visibility.tolist()
    without = predictor(picture, "the man", tasks=("box",))
    assert without.visibility is None and without.to_dict()["visibility"] is None


# -- the token space ---------------------------------------------------------------------------------------------------
@given(st.integers(1, 300), st.integers(0, 40), st.booleans())
@settings(max_examples=50)
def test_codes_of_a_pose_are_nobody_elses(label_codes, mask_codes, pose):
    start = Vocabulary(Words(), num_codes=label_codes + 50, label_codes=label_codes, mark_start=label_codes)
    masks = start.with_masks(mask_codes, 48) if mask_codes else start
    new = masks.with_pose(17, 48)
    ids = [
        *range(*new.label_span), new.parts_begin, new.parts_end, *new.parts_queries(48), *range(*new.visibility_span),
        new.pose_begin, new.pose_end, *new.pose_queries(17),
    ]  # fmt: skip
    if mask_codes:
        ids += [*range(*new.mask_span), new.mask_begin, new.mask_end, *new.mask_queries(48)]
    assert len(ids) == len(set(ids)) and max(ids) < new.bin_start


def test_a_token_space_says_whether_poses_are_blocks(pose_model, tiny_vocabulary, tiny_text_model):
    new = pose_model[1]
    section = describe_vocabulary(new)
    assert load_vocabulary(section, tiny_text_model.parent).pose_start == new.pose_start > 0
    assert "pose_start" not in describe_vocabulary(tiny_vocabulary)
    with pytest.raises(RefHCMError, match="does not fit together"):
        load_vocabulary({**section, "num_codes": new.num_codes - 1}, tiny_text_model.parent)
    with pytest.raises(ValueError, match="among those of part maps and masks"):
        replace(new, pose_start=20)
    assert type(build("rkpt", tiny_vocabulary).segments[1]) is KeypointsSegment
    assert type(build("rkpt", new).segments[1]) is PoseSegment


def test_a_model_gains_the_codes_and_keeps_its_other_answers(tiny_folder, tiny_vocabulary, tiny_predictor, tmp_path):
    add_codes.main([str(tiny_folder), str(tmp_path / "new"), "--pose"])
    model, content = load_folder(tmp_path / "new", dtype=torch.float32)
    vocabulary = load_vocabulary(content["vocabulary"], tmp_path / "new")
    task, features = build("rec", vocabulary), features_of(model, 1)
    (after,) = ask(model, task, features, [0], questions(1))
    (before,) = ask(tiny_predictor.model, build("rec", tiny_vocabulary), features, [0], questions(1))
    shift = vocabulary.bin_start - tiny_vocabulary.bin_start
    assert [token - shift for token in after.tokens] == list(before.tokens)
    wrist = vocabulary.pose_queries(17)[3 * KEYPOINT_NAMES.index("left_wrist")]
    spelt = model.encoder.embed_tokens.weight[vocabulary.encode_text(" left_wrist")].mean(0)
    assert torch.allclose(model.encoder.embed_tokens.weight[wrist], spelt, atol=1e-3)  # kept in half precision
    for wrong in (["--pose"], []):
        with pytest.raises(SystemExit, match=r"has codes for poses already|Say which codes"):
            add_codes.main([str(tmp_path / "new"), str(tmp_path / "twice"), *wrong])


def test_queries_begin_as_the_names_of_their_keypoints(pose_model):
    model, vocabulary = pose_model
    before = model.encoder.embed_tokens.weight.detach().clone()
    start_pose(model, vocabulary)
    after = model.encoder.embed_tokens.weight
    changed = (before != after).any(1).nonzero().flatten().tolist()
    assert changed == vocabulary.pose_queries(17)
    with torch.no_grad():
        after.copy_(before)
