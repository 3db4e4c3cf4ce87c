"""Anomaly metrics against values by hand, against scikit-learn, and against a search over all thresholds."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat
from sklearn.metrics import roc_auc_score

from rsunfold.errors import InputError
from rsunfold.metrics import anomaly
from rsunfold.metrics.anomaly import FORMULAS, LIMITS, detection, roc
from rsunfold.scene import scene_of

# Scores 9 7 7 5 | 7 3 1 1 1 1: of 4 anomalies over 6 background pixels.
SCORE = np.array([[9, 7, 7, 5, 7], [3, 1, 1, 1, 1]], np.float32)
TRUTH = np.array([[1, 1, 1, 1, 0], [0, 0, 0, 0, 0]], bool)


def drawn(seed: int, levels: int, rows: int = 40, cols: int = 30, share: float = 0.05):
    """Scores with ``levels`` distinct values, higher on anomalies."""
    rng = np.random.default_rng(seed)
    truth = rng.random((rows, cols)) < share
    truth[0, :2] = True, False
    score = np.floor(levels * (rng.random((rows, cols)) * 0.7 + 0.3 * truth * rng.random((rows, cols))))
    return score.astype(np.float32), truth


def every_point(score, truth):
    """PF and PD of every threshold, one after the other."""
    cuts = [np.inf, *sorted({float(s) for s in score.flat}, reverse=True)]
    return [(float(np.mean(score[~truth] >= c)), float(np.mean(score[truth] >= c))) for c in cuts]


def area(points, limit):
    """Trapezoids up to the limit, the one that it cuts included in part."""
    total = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        end = min(x1, limit)
        y_end = y1 if x1 <= limit else y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        total += (end - x0) * (y0 + y_end) / 2
    return total / limit


# ---------------------------------------------------------------- by hand


def test_areas_by_hand():
    result = detection(SCORE, TRUTH)
    # 9 beats 6 of 6; each 7 beats 5 and ties with 1; 5 beats 5.
    df = (6 + 5.5 + 5.5 + 5) / 24
    dt, ft = (1 + 0.75 + 0.75 + 0.5) / 4, (0.75 + 0.25) / 6
    assert result["auc_df"] == df
    assert result["auc_dtau"] == pytest.approx(dt, rel=1e-15) and result["auc_ftau"] == pytest.approx(ft, rel=1e-15)
    assert result["auc_td"] == pytest.approx(df + dt) and result["auc_bs"] == pytest.approx(df - ft)
    assert result["auc_snpr"] == pytest.approx(dt / ft) and result["auc_tdbs"] == pytest.approx(dt - ft)
    assert result["auc_odp"] == pytest.approx(df + dt - ft)
    assert [result[f"{name}_pixels"] for name in ("anomaly", "background", "left_out")] == [4, 6, 0]
    # From (0, 1/4) straight to (1/6, 3/4): at PF = 0.01 the curve is at 0.28.
    assert result["auc_pf_0.01"] == pytest.approx((0.25 + 0.28) / 2)
    assert result["auc_pf_0.1"] == pytest.approx((0.25 + 0.55) / 2)


def test_quantiles_by_hand():
    score = np.concatenate([np.arange(11.0), 10 + np.arange(11.0)])[None]
    separability = detection(score, np.arange(22)[None] > 10)["separability"]
    assert separability["background"] == pytest.approx(
        {"p10": 0.05, "p25": 0.125, "p50": 0.25, "p75": 0.375, "p90": 0.45}
    )
    assert separability["anomaly"] == pytest.approx({"p10": 0.55, "p25": 0.625, "p50": 0.75, "p75": 0.875, "p90": 0.95})
    assert separability["gap"] == pytest.approx(0.1)


def test_corners_by_hand():
    pf, pd = roc(SCORE, TRUTH)
    # At 9: (0, 1/4). At 7 both kinds rise. At 5: (1/6, 1), a corner. 3 lies on the level line to (1, 1).
    assert pf.tolist() == [0, 0, 1 / 6, 1 / 6, 1]
    assert pd.tolist() == [0, 0.25, 0.75, 1, 1]


def test_perfect_inverted_and_constant_scores():
    perfect, inverted = detection(TRUTH * 2.5, TRUTH), detection(~TRUTH * 1.0, TRUTH)
    assert perfect["auc_df"] == perfect["auc_pf_0.01"] == perfect["auc_dtau"] == perfect["separability"]["gap"] == 1
    assert perfect["auc_ftau"] == 0 and perfect["auc_snpr"] is None
    assert inverted["auc_df"] == inverted["auc_pf_0.1"] == 0 and inverted["auc_snpr"] == 0
    constant = detection(np.full(TRUTH.shape, 0.1, np.float32), TRUTH)
    assert constant["auc_df"] == 0.5 and constant["auc_dtau"] == constant["auc_ftau"] == 0
    assert constant["auc_pf_0.01"] == pytest.approx(0.005) and constant["auc_pf_0.1"] == pytest.approx(0.05)
    assert constant["separability"]["gap"] == 0
    assert [v.tolist() for v in roc(np.zeros(TRUTH.shape), TRUTH)] == [[0, 1], [0, 1]]


# ---------------------------------------------------------------- against others


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([1, 2, 5, 40, 10**6]))
def test_areas_are_those_of_a_search_over_all_thresholds(seed, levels):
    score, truth = drawn(seed, levels)
    result = detection(score, truth)
    assert result["auc_df"] == pytest.approx(roc_auc_score(truth.ravel(), score.ravel()), rel=1e-12)
    points = every_point(score, truth)
    assert result["auc_df"] == pytest.approx(area(points, 1), rel=1e-12)
    for limit in LIMITS:
        assert result[f"auc_pf_{limit:g}"] == pytest.approx(area(points, limit), rel=1e-12, abs=1e-15)
    corners = list(zip(*(v.tolist() for v in roc(score, truth)), strict=True))
    assert set(corners) <= set(points) and len(corners) <= len(points)
    for limit in (*LIMITS, 1):
        assert area(corners, limit) == pytest.approx(area(points, limit), rel=1e-12, abs=1e-15)


def test_neither_scale_nor_offset_nor_type_of_the_score_matters():
    score, truth = drawn(3, 25)
    plain = detection(score, truth)
    for other in (2.0**-70 * score, score.astype(np.float64) - 8, score.astype(np.uint8)):
        assert detection(other, truth) == plain


def test_scores_that_differ_by_the_last_bit_are_not_tied():
    score = np.full((1, 4), 1, np.float32)
    score[0, 3] = np.nextafter(np.float32(1), np.float32(2))
    assert detection(score, np.array([[0, 0, 0, 1]], bool))["auc_df"] == 1


@pytest.mark.parametrize("share", [0.5, 0.005])
def test_a_long_curve_is_thinned_but_not_where_false_alarms_are_few(share, monkeypatch):
    score, truth = drawn(1, 10**6, 200, 300, share)
    monkeypatch.setattr(anomaly, "MOST", 10**9)
    whole = roc(score, truth)
    monkeypatch.setattr(anomaly, "MOST", 100)
    thin = roc(score, truth)
    assert len(thin[0]) == len(thin[1]) <= 100
    assert all(np.array_equal(t[:50], w[:50]) for t, w in zip(thin, whole, strict=True))
    assert set(zip(*thin, strict=True)) <= set(zip(*whole, strict=True))
    assert (thin[0][-1], thin[1][-1]) == (1, 1) and (np.diff(thin[0]) >= 0).all() and (np.diff(thin[1]) >= 0).all()
    assert len(whole[0]) > 200 and np.diff(np.log(thin[0][51:])).max() < 0.25


# ---------------------------------------------------------------- left out


def test_pixels_that_are_not_valid_do_not_count():
    score, truth = drawn(5, 30)
    valid = np.ones(score.shape, bool)
    valid[7:12, 3:] = valid[30:] = False
    spoilt = np.where(valid, score, np.nan)
    result = detection(spoilt, truth, valid)
    alone = detection(score[valid][None], truth[valid][None])
    assert result["left_out_pixels"] == int((~valid).sum()) > 0 == alone["left_out_pixels"]
    assert (
        result["anomaly_pixels"] + result["background_pixels"] + result["left_out_pixels"] == result["pixels"] == 1200
    )
    assert {k: v for k, v in result.items() if k not in ("pixels", "left_out_pixels")} == {
        k: v for k, v in alone.items() if k not in ("pixels", "left_out_pixels")
    }
    assert np.array_equal(roc(spoilt, truth, valid), roc(score[valid][None], truth[valid][None]))


def test_the_answer_is_json_and_has_a_formula_for_each_figure():
    for score in (SCORE, TRUTH * 1.0, np.zeros(TRUTH.shape)):
        answer = detection(score, TRUTH)
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer
        figures = {name for name in answer if name.startswith("auc")} | {"gap"}
        assert figures == set(FORMULAS) and all("\n" not in text for text in FORMULAS.values())


def test_wrong_input_is_refused():
    hole = SCORE.copy()
    hole[1, 1] = np.nan
    for bad, says in [
        ((SCORE[:, 1:], TRUTH), r"\(2, 4\), \(2, 5\) and \(2, 5\)"),
        ((SCORE, TRUTH, TRUTH[:1]), r"\(2, 5\), \(2, 5\) and \(1, 5\)"),
        ((SCORE[0], TRUTH[0]), r"\(rows, cols\)"),
        ((SCORE, TRUTH.astype(np.uint8)), "must be boolean, got uint8"),
        ((SCORE, ~TRUTH & False), "no valid pixel is an anomaly"),
        ((SCORE, TRUTH | True), "no valid pixel is background"),
        ((SCORE, TRUTH, ~TRUTH), "no valid pixel is an anomaly"),
        ((SCORE, TRUTH, TRUTH), "no valid pixel is background"),
        ((hole, TRUTH), "NaN or infinite at valid pixels"),
        ((np.where(SCORE == 9, np.inf, SCORE), TRUTH), "NaN or infinite at valid pixels"),
    ]:
        for function in (detection, roc):
            with pytest.raises(InputError, match=says):
                function(*bad)


def test_masked_pixels_of_score_or_truth_do_not_count():
    hidden = np.zeros(TRUTH.shape, bool)
    hidden[0, :2] = True
    spoiled = np.where(hidden, 1e9, SCORE)
    expected = detection(SCORE, TRUTH, ~hidden)
    assert detection(np.ma.array(spoiled, mask=hidden), TRUTH) == expected
    assert detection(spoiled, np.ma.array(TRUTH, mask=hidden)) == expected
    assert detection(SCORE, TRUTH, np.ma.array(np.ones(TRUTH.shape, bool), mask=hidden)) == expected
    assert expected["left_out_pixels"] == 2
    for one, other in zip(roc(np.ma.array(spoiled, mask=hidden), TRUTH), roc(SCORE, TRUTH, ~hidden), strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- real scenes


def global_rx(path):
    """Scores (x - m)' C^-1 (x - m) of a scene and its truth."""
    data = loadmat(path)
    cube = data["data"].astype(np.float64).transpose(2, 0, 1)
    scene = scene_of((cube / cube.max()).astype(np.float32))
    x = (cube / cube.max()).reshape(len(cube), -1) - scene.mean[:, None]
    return np.einsum("ij,ij->j", x, np.linalg.solve(scene.covariance, x)).reshape(cube.shape[1:]), data["map"] > 0


@pytest.mark.parametrize("name", ["abu-urban-1", "pavia-car"])
def test_global_rx_on_shared_scenes_is_what_scikit_learn_makes_of_it(shared, name):
    score, truth = global_rx(shared / "data" / "had" / f"{name}.mat")
    result = detection(score, truth)
    assert result["auc_df"] == pytest.approx(roc_auc_score(truth.ravel(), score.ravel()), rel=1e-12)
    assert result["auc_df"] > 0.95 and result["auc_snpr"] > 2
    for limit in LIMITS:
        assert result[f"auc_pf_{limit:g}"] == pytest.approx(area(every_point(score, truth), limit), rel=1e-9)
