"""From scores to a threshold: the false-alarm rate that was asked for, on backgrounds of many shapes."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rsunfold.errors import UsageError
from rsunfold.infer.anomaly import threshold as module
from rsunfold.infer.anomaly.threshold import Tail, choose_threshold, fit_tail

N = 100_000
BACKGROUNDS = {
    "chi-square, 5 bands": lambda rng: rng.chisquare(5, N),
    "chi-square, 50 bands": lambda rng: rng.chisquare(50, N),
    "chi": lambda rng: np.sqrt(rng.chisquare(12, N)),
    "log-normal": lambda rng: rng.lognormal(0, 1, N),
    "exponential": lambda rng: rng.exponential(1, N),
    "heavy": lambda rng: rng.standard_t(3, N) ** 2,
}


def drawn(name: str, seed: int) -> np.ndarray:
    return BACKGROUNDS[name](np.random.default_rng(seed)).astype(np.float32).reshape(250, 400)


def rate(score: np.ndarray, pfa: float) -> float:
    return float((score > choose_threshold(score, pfa=pfa)[0]).mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", BACKGROUNDS)
def test_calibration_on_pure_background(name, seed):
    score = drawn(name, seed)
    assert rate(score, 1e-2) == pytest.approx(1e-2, rel=0.1)
    # Of a tail as light as the exponential one a distribution of the logarithm sees the bend too late.
    most = 2.5 if name == "exponential" else 2
    assert 1e-3 / 2 < rate(score, 1e-3) < 1e-3 * most
    assert rate(score, 0.2) == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_anomalies_make_false_alarms_fewer(name):
    score = drawn(name, 3)
    truth = np.zeros(score.shape, bool)
    truth[:20, :25] = True  # 1 in 200
    score = np.where(truth, 100 * score.max(), score)
    threshold, _ = choose_threshold(score, pfa=1e-2)
    alarms = float((score[~truth] > threshold).mean())
    assert 0.3e-2 < alarms < 1.1e-2 and (score[truth] > threshold).all()


@pytest.mark.parametrize("first", range(4))
def test_columns_of_other_detectors_count_as_all_others(first, monkeypatch):
    monkeypatch.setattr(module, "MOST", 25_000)
    score = drawn("chi-square, 50 bands", 0)  # (250, 400)
    score[:, first::4] *= 1.4
    assert rate(score, 1e-2) == pytest.approx(1e-2, rel=0.2)


@pytest.mark.parametrize("factor", [1e-6, 300.0])
def test_units_do_not_matter(factor):
    score = drawn("log-normal", 0).astype(np.float64)
    for pfa in (1e-2, 1e-3):
        scaled = choose_threshold(score * factor, pfa=pfa)[0]
        assert scaled == pytest.approx(choose_threshold(score, pfa=pfa)[0] * factor, rel=1e-3)


@pytest.mark.parametrize("offset", [-50.0, -3.0])
def test_signed_scores_of_other_programs(offset):
    score = np.random.default_rng(0).normal(offset, 1, (250, 400))
    for pfa in (1e-2, 1e-3):
        assert rate(score, pfa) == pytest.approx(pfa, rel=0.5)
    assert choose_threshold(score, pfa=1e-3)[1]["zero_point"] == score.min()


def test_a_lower_rate_is_a_higher_threshold():
    score = drawn("chi-square, 5 bands", 1)
    found = [choose_threshold(score, pfa=p)[0] for p in (0.4, 0.2, 0.1, 0.05, 0.01, 1e-3, 1e-4, 1e-6)]
    assert found == sorted(found) and len(set(found)) == len(found)


def test_ties_come_as_near_as_they_can():
    score = np.random.default_rng(0).poisson(3, (250, 400)).astype(np.float32)
    steps = sorted(float((score > k).mean()) for k in range(20))
    for pfa in (0.2, 0.03, 0.01):
        found = rate(score, pfa)
        above = np.searchsorted(steps, pfa)
        assert found in (steps[above - 1], steps[above])


@pytest.mark.parametrize("share", [0.3, 0.07, 0.02, 0.005])
def test_scores_that_are_0_nearly_everywhere(share):
    rng = np.random.default_rng(0)
    score = (rng.exponential(1, (250, 400)) * (rng.random((250, 400)) < share)).astype(np.float32)
    assert 0 < rate(score, 1e-2) < 1.1e-2
    assert rate(score, 0.3) <= 0.3


def test_equal_scores_have_no_anomaly():
    for value in (0.0, 3.5):
        threshold, about = choose_threshold(np.full((9, 9), value, np.float32), pfa=1e-3)
        assert threshold == value and about["tail"] is None
    assert fit_tail(np.zeros(5)) is None


def test_pixels_without_a_score_do_not_matter():
    score = drawn("exponential", 0)
    holed = np.concatenate([score, np.full((9, 400), np.nan, np.float32)])
    for rule in ({"pfa": 0.01}, {"percentile": 98.0}):
        assert choose_threshold(holed, **rule)[0] == pytest.approx(choose_threshold(score, **rule)[0])


def test_percentile():
    score = np.arange(101.0).reshape(1, -1)
    threshold, about = choose_threshold(score, percentile=95)
    assert threshold == 95 and about == {"rule": "percentile of all scores", "percentile": 95}


def test_a_given_threshold_is_that_of_every_image():
    for score in (np.arange(9.0).reshape(3, 3), np.arange(-9.0, 0).reshape(3, 3)):
        assert choose_threshold(score, threshold=4) == (4.0, {"rule": "given"})


@pytest.mark.parametrize("xi", [-0.3, 0.0, 0.2])
def test_the_tail_is_a_distribution_that_a_fit_finds_again(xi):
    tail = Tail(2.0, 0.1, xi, 0.3)
    ranks = (np.arange(N) + 0.5) / N
    score = np.where(ranks > 0.1, 2.2 - 2 * ranks, [tail.threshold(min(r, 0.1)) for r in ranks])
    found = fit_tail(score)
    assert found is not None and found.u == pytest.approx(2, rel=1e-3) and found.share == pytest.approx(0.1, rel=1e-2)
    assert (found.xi, found.sigma) == (pytest.approx(xi, abs=0.03), pytest.approx(0.3, rel=0.03))
    assert found.threshold(1e-3) == pytest.approx(tail.threshold(1e-3), rel=0.02)
    about = choose_threshold(score[None], pfa=1e-3)[1]
    assert about["pfa"] == 1e-3 and about["tail"]["xi"] == found.xi and json.dumps(about)


@given(
    arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 60)), elements=st.floats(0, 2.0**100, width=32)),
    st.sampled_from([1e-9, 1e-3, 1e-2, 0.3]),
)
def test_any_scores_give_a_finite_threshold(score, pfa):
    threshold, about = choose_threshold(score, pfa=pfa)
    assert math.isfinite(threshold) and threshold >= 0
    assert json.dumps(about, allow_nan=False)


@pytest.mark.parametrize("spread", [1, 8, 40])
def test_scores_over_many_decades_give_a_finite_threshold(spread):
    score = np.exp(spread * np.random.default_rng(0).normal(0, 1, (100, 100)))
    threshold, about = choose_threshold(score, pfa=1e-9)
    assert math.isfinite(threshold) and json.dumps(about, allow_nan=False)


@pytest.mark.parametrize(
    ("pfa", "percentile", "message"),
    [
        (None, None, "use one of --pfa, --percentile and --threshold"),
        (0.01, 99, "use one of --pfa, --percentile and --threshold"),
        (0.0, None, "--pfa must lie between 0 and 0.5, not 0.0"),
        (0.5, None, "--pfa must lie between 0 and 0.5"),
        (math.nan, None, "--pfa must lie between 0 and 0.5, not nan"),
        (None, 0, "--percentile must lie above 1 and below 100, such as 99 for the 1 % highest scores, not 0.$"),
        (
            None,
            0.99,
            "above 1 and below 100, such as 99 for the 1 % highest scores, not 0.99; for a share of 0.99 write 99.$",
        ),
        (None, 0.9999999, "not 0.9999999; for a share of 0.9999999 write 99.99999.$"),
        (None, 0.005, "not 0.005.$"),
        (None, 100.0000001, "not 100.0000001.$"),
        (None, 1, "above 1 and below 100, .*, not 1.$"),
        (None, 100, "--percentile must lie above 1 and below 100"),
        (None, math.nan, "--percentile must lie above 1 and below 100, .*, not nan"),
    ],
)
def test_refusals(pfa, percentile, message):
    with pytest.raises(UsageError, match=message):
        choose_threshold(np.ones((3, 3)), pfa=pfa, percentile=percentile)


@pytest.mark.parametrize("threshold", [-0.1, math.nan, math.inf])
def test_a_threshold_that_no_score_has(threshold):
    with pytest.raises(UsageError, match="--threshold must be a score of 0 or more, not"):
        choose_threshold(np.ones((3, 3)), threshold=threshold)
