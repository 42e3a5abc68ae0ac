"""A calibrated chance ranks as the model's own does, and decides as it says."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refhcm.inference.presence import calibrated, deciding, log_odds, raw_threshold, read_presence
from refhcm.models.abilities import Presence

chances = st.floats(0.001, 0.999)
presences = st.builds(Presence, st.floats(0.2, 3), st.floats(-2, 2), st.floats(0.01, 0.99))


def test_known_answers():
    assert calibrated(0.8, Presence()) == pytest.approx(0.8)
    # Odds of 4, squared and times e: 16 e.
    assert calibrated(0.8, Presence(2.0, 1.0)) == pytest.approx(16 * math.e / (16 * math.e + 1))
    assert raw_threshold(Presence(2.0, 0.0, 16 / 17)) == pytest.approx(0.8)
    assert deciding(Presence()).empty_from == pytest.approx(0.5)
    assert log_odds(1.0) == pytest.approx(-log_odds(0.0)) == pytest.approx(math.log(1e7), rel=1e-6)


@given(st.floats(0, 1), st.floats(0, 1), presences)
def test_a_chance_stays_one_and_ranks_as_before(first, second, presence):
    low, high = (calibrated(min(first, second), presence), calibrated(max(first, second), presence))
    assert 0 <= low <= high <= 1


@given(chances, presences)
def test_the_threshold_of_both_chances_decides_alike(raw, presence):
    limit = raw_threshold(presence)
    assume(abs(raw - limit) > 1e-6)
    assert (calibrated(raw, presence) >= presence.threshold) == (raw >= limit)
    assert (1 - raw >= deciding(presence).empty_from) == (raw < limit)


@pytest.mark.parametrize("threshold, somebody", [(0.0, True), (1.0, False)])
def test_thresholds_at_the_ends_always_say_the_same(threshold, somebody):
    limit = raw_threshold(Presence(1.5, 0.3, threshold))
    assert all((raw >= limit) == somebody for raw in (1e-6, 0.5, 1 - 1e-6))


def test_a_model_folder_that_says_nothing_leaves_chances_as_they_are():
    assert read_presence({}, "config.json") == Presence()
