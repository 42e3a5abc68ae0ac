"""Every meter: any split, merged, equals one meter; the order of samples is nothing where scores differ; merging and
reading leave what was merged alone; a meter crosses processes."""

import pickle
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm.metrics.agreement import AgreementMeter, agreement
from refhcm.metrics.boxes import BoxMeter
from refhcm.metrics.captions import CaptionMeter
from refhcm.metrics.coco import Detection, GroundTruth
from refhcm.metrics.grec import GrecMeter
from refhcm.metrics.keypoints import KeypointMeter
from refhcm.metrics.masks import GresMeter, MaskMeter, RegionMeter
from refhcm.metrics.parsing import ParsingMeter
from refhcm.metrics.parsing_people import PeopleParsingMeter
from refhcm.metrics.people import PeopleMeter
from refhcm.metrics.presence import PresenceMeter
from refhcm.metrics.refhuman import RefHumanMeter

SIDE = 24


def _box(rng):
    corner = rng.uniform(0, SIDE / 2, 2)
    return (*corner, *(corner + rng.uniform(4, SIDE / 2, 2)))


def _points(rng):
    return np.column_stack((rng.uniform(0, SIDE, (17, 2)), rng.integers(0, 3, 17)))


def _mask(rng, full=1.0):
    return (rng.random((SIDE, SIDE)) < 0.5) & (rng.random() < full)


def _box_sample(rng):
    truth = _box(rng)
    return np.array(truth) + rng.normal(0, 2, 4) if rng.random() < 0.8 else None, truth, rng.random()


def _keypoint_sample(rng):
    truth = _points(rng)
    answer = truth[:, :2] + rng.normal(0, 1.5, (17, 2)) if rng.random() < 0.8 else None
    return answer, truth, _box(rng), rng.uniform(50, 200), rng.random()


def _grec_sample(rng):
    people = [_box(rng) for _ in range(rng.integers(0, 3))]
    return people[: rng.integers(0, 3)], people


def _map(rng):
    return rng.integers(0, 4, (5, 6))


def _people_sample(rng):
    truth = [_map(rng) for _ in range(rng.integers(1, 3))]
    found = [np.where(rng.random((5, 6)) < 0.2, 0, each) for each in truth]
    return found, rng.random(len(found)), truth


def _refhuman_sample(rng):
    truth = GroundTruth(_box(rng), rng.uniform(50, 200), _points(rng), _mask(rng))
    near = truth.keypoints[:, :2] + rng.normal(0, 1.5, (17, 2))
    return [Detection(rng.random(), _box(rng), near, _mask(rng)) for _ in range(rng.integers(0, 3))], truth


def _caption_sample(rng):
    def text():
        return " ".join(rng.choice(["a", "man", "woman", "red", "hat,", "left."], 5))

    return text(), [text(), text()]


def _agreement_sample(rng):
    points = np.column_stack((rng.uniform(0, SIDE, (17, 2)), rng.integers(0, 2, 17)))
    return (agreement(_box(rng), points, _mask(rng, 0.7), _mask(rng).astype(np.uint8)),)


def _everyone_sample(rng):
    people = [GroundTruth(_box(rng), rng.uniform(50, 200), _points(rng), _mask(rng)) for _ in range(rng.integers(0, 3))]
    found = [Detection(rng.random(), _box(rng), _points(rng) / SIDE, _mask(rng)) for _ in people[: rng.integers(0, 3)]]
    return found, people, rng.random()


METERS = {
    "agreement": (AgreementMeter, _agreement_sample),
    "everyone": (partial(PeopleMeter, ("mask", "keypoints")), _everyone_sample),
    "presence": (PresenceMeter, lambda rng: (rng.random(), rng.random() < 0.5, rng.random() < 0.5)),
    "regions": (RegionMeter, lambda rng: (rng.integers(0, 3, (5, 6)), rng.integers(0, 3, (5, 6)))),
    "boxes": (BoxMeter, _box_sample),
    "captions": (CaptionMeter, _caption_sample),
    "grec": (GrecMeter, _grec_sample),
    "gres": (GresMeter, lambda rng: (_mask(rng, 0.7), _mask(rng, 0.7))),
    "keypoints": (KeypointMeter, _keypoint_sample),
    "masks": (MaskMeter, lambda rng: (_mask(rng), _mask(rng))),
    "parsing": (ParsingMeter, lambda rng: (_map(rng), _map(rng))),
    "people": (PeopleParsingMeter, _people_sample),
    "refhuman": (RefHumanMeter, _refhuman_sample),
}
ORDER_COUNTS = {"ap_constant_score"}
"""Without scores the order of the samples is all the ranking there is."""


def _filled(make, samples):
    meter = make()
    for sample in samples:
        meter.add(*sample)
    return meter


@pytest.mark.parametrize("name", METERS)
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 6), max_size=3))
@settings(max_examples=5, deadline=None)
def test_any_split_merged_equals_one_meter(name, seed, cuts):
    make, sample = METERS[name]
    rng = np.random.default_rng(seed)
    samples = [sample(rng) for _ in range(6)]
    whole = _filled(make, samples).result()
    places = [0, *sorted(cuts), 6]
    parts = [_filled(make, samples[a:b]) for a, b in pairwise(places)]
    before = [part.result() for part in parts]
    merged = make()
    for part in parts:
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert merged.result() == pytest.approx(whole)
    assert merged.result() == merged.result()
    assert [part.result() for part in parts] == before


@pytest.mark.parametrize("name", METERS)
@given(seed=st.integers(0, 1000))
@settings(max_examples=3, deadline=None)
def test_the_order_of_samples_is_nothing(name, seed):
    make, sample = METERS[name]
    rng = np.random.default_rng(seed)
    samples = [sample(rng) for _ in range(6)]
    shuffled = [samples[i] for i in rng.permutation(6)]
    first, second = (
        {key: value for key, value in _filled(make, each).result().items() if key not in ORDER_COUNTS}
        for each in (samples, shuffled)
    )
    assert first == pytest.approx(second)


@pytest.mark.parametrize("name", METERS)
def test_a_meter_without_samples_has_no_figure(name):
    make, _ = METERS[name]
    assert make().result() == {"samples": 0.0}


@pytest.mark.parametrize("name", METERS)
def test_every_figure_is_a_number_within_its_range(name):
    make, sample = METERS[name]
    rng = np.random.default_rng(4)
    result = _filled(make, [sample(rng) for _ in range(8)]).result()
    counts = {"samples", "people", "classes"}
    top = 10.0 if name == "captions" else 1.0
    assert all(type(value) is float for value in result.values())
    assert all(0 <= value <= top + 1e-9 for key, value in result.items() if key not in counts), result
