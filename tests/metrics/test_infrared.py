"""Infrared metrics against counts by hand and against a slow independent computation."""

import json

import numpy as np
import pytest
from skimage.measure import label, regionprops

from rsunfold.errors import InputError, UsageError
from rsunfold.metrics.components import Components, match
from rsunfold.metrics.infrared import (
    CONVENTIONS,
    FORMULAS,
    InfraredMetrics,
    legacy_half_maximum,
    partial_auc,
    roc_thresholds,
)
from rsunfold.rule import Rule


def mask(text):
    """A bool array from rows of '.' and '#'."""
    return np.array([[c == "#" for c in line] for line in text.split()])


def scored(predicted, truth, valid=None):
    metrics = InfraredMetrics(None)
    return metrics.update("x", predicted, truth, valid), metrics.result()


TRUTH = mask("""
    ##......
    ##......
    ........
    ......#.
    .......#
    ........
    #.......
""")
PREDICTED = mask("""
    .##.....
    .##.....
    ........
    ......#.
    ........
    ....##..
    ........
""")


def test_by_hand():
    row, result = scored(PREDICTED, TRUTH)
    assert row["targets"] == 3  # the two diagonal pixels are one component
    assert (row["tp"], row["fp"], row["fn"]) == (3, 4, 4)
    assert result["iou_pooled"] == pytest.approx(3 / 11)
    assert result["f1_pooled"] == pytest.approx(6 / 14)
    assert result["overlap"]["pd"] == pytest.approx(2 / 3)
    assert result["overlap"]["fa"] == pytest.approx(4 / (56 - 7))
    # centroids: (.5,.5)-(.5,1.5) and (3.5,6.5)-(3,6) match; (5,4.5) and (6,0) do not
    assert result["centroid"]["pd"] == pytest.approx(2 / 3)
    assert result["centroid"]["fa"] == pytest.approx(2 / 56)
    assert result["centroid"]["false_components_per_megapixel"] == pytest.approx(1e6 / 56)
    assert (result["images"], result["pixels"], result["targets"]) == (1, 56, 3)
    json.dumps(result)


def test_the_conventions_differ_where_they_should():
    """A long streak touches the target (found by overlap) but its centroid is far off (not matched)."""
    truth, predicted = np.zeros((5, 30), bool), np.zeros((5, 30), bool)
    truth[2, 2] = predicted[2, 2:20] = True
    row, result = scored(predicted, truth)
    assert (result["overlap"]["pd"], result["centroid"]["pd"]) == (1, 0)
    assert result["overlap"]["fa"] == pytest.approx(17 / 149)
    assert row["unmatched_pixels_centroid"] == 18
    assert result["centroid"]["fa"] == pytest.approx(18 / 150)


@pytest.mark.parametrize(("shift", "found"), [(2, 1), (3, 0)])
def test_centroids_must_be_closer_than_three_pixels(shift, found):
    truth, predicted = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    truth[4, 4] = predicted[4, 4 + shift] = True
    assert scored(predicted, truth)[0]["matched_centroid"] == found


def test_matching_is_one_to_one():
    truth, predicted = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    truth[4, 4] = predicted[4, 3] = predicted[4, 6] = True
    row, result = scored(predicted, truth)
    assert (row["matched_centroid"], row["detections"]) == (1, 2)
    assert row["unmatched_pixels_centroid"] == 1
    g, p = match(Components.of(truth), Components.of(predicted))
    assert (g.tolist(), p.tolist()) == ([0], [0])  # the nearer one
    assert result["centroid"]["false_components"] == 1


def test_matching_finds_as_many_pairs_as_possible():
    truth = mask("#...#....")
    predicted = mask("..##..#..")  # nearest first would pair the middle one with the right target, and lose the left
    assert scored(predicted, truth)[0]["matched_centroid"] == 2


def assignments(allowed):
    """Every way to give each row of the bool array ``allowed`` a column of its own, or None."""
    if not len(allowed):
        yield ()
        return
    for rest in assignments(allowed[1:]):
        yield (None, *rest)
        yield from ((j, *rest) for j in np.flatnonzero(allowed[0]) if j not in rest)


def brute_force(predicted, truth):
    """(found by overlap, matched by centroid, pixels unmatched) by regionprops and all assignments."""
    g, p = regionprops(label(truth, connectivity=2)), regionprops(label(predicted, connectivity=2))
    found = sum(any(predicted[r, c] for r, c in region.coords) for region in g)
    distance = np.array([[np.hypot(*np.subtract(a.centroid, b.centroid)) for b in p] for a in g])
    used = max(
        ([(i, j) for i, j in enumerate(order) if j is not None] for order in assignments(distance < 3)),
        key=lambda pairs: (len(pairs), -sum(distance[pair] for pair in pairs)),
    )
    return found, len(used), sum(region.area for j, region in enumerate(p) if j not in [j for _, j in used])


@pytest.mark.parametrize("seed", range(20))
def test_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.random((12, 13)) < 0.04, rng.random((12, 13)) < 0.06
    row, _ = scored(predicted, truth)
    assert (row["found_overlap"], row["matched_centroid"], row["unmatched_pixels_centroid"]) == brute_force(
        predicted, truth
    )


def test_pooled_over_images_and_mean_of_images():
    empty = np.zeros_like(TRUTH)
    metrics = InfraredMetrics(None)
    metrics.update("hit", TRUTH, TRUTH)
    metrics.update("part", PREDICTED, TRUTH)
    metrics.update("nothing", empty, empty)
    metrics.update("alarm", PREDICTED, empty)
    result = metrics.result()
    assert [row["iou"] for row in metrics.rows] == [1, pytest.approx(3 / 11), 1, 0]
    assert result["niou"] == pytest.approx((1 + 3 / 11 + 1 + 0) / 4)
    assert result["iou_pooled"] == pytest.approx((7 + 3) / (7 + 11 + 7))
    assert result["overlap"]["fa"] == pytest.approx((4 + 7) / (4 * 56 - 14))  # images without targets count
    assert result["empty_images"] == {
        "images": 2,
        "pixels": 112,
        "share_with_detection": 0.5,
        "false_components_per_megapixel": pytest.approx(3e6 / 112),
    }


def test_no_truth_and_no_prediction():
    empty = np.zeros((4, 5), bool)
    row, result = scored(empty, empty)
    assert (row["iou"], result["niou"]) == (1, 1)
    assert result["iou_pooled"] is None and result["f1_pooled"] is None
    assert result["overlap"]["pd"] is None and result["centroid"]["pd"] is None
    assert (result["overlap"]["fa"], result["centroid"]["fa"]) == (0, 0)
    assert result["empty_images"]["share_with_detection"] == 0


def test_truth_without_prediction():
    _, result = scored(np.zeros_like(TRUTH), TRUTH)
    assert result["iou_pooled"] == result["niou"] == result["overlap"]["pd"] == result["centroid"]["pd"] == 0
    assert result["empty_images"]["share_with_detection"] is None


def test_no_image_and_all_nodata():
    assert InfraredMetrics(Rule(0.5)).result()["niou"] is None
    row, result = scored(PREDICTED, TRUTH, np.zeros_like(TRUTH))
    assert row["iou"] is None
    assert (result["images"], result["images_all_nodata"], result["pixels"], result["targets"]) == (0, 1, 0, 0)
    assert result["nodata_pixels"] == 56
    assert result["niou"] is None and result["overlap"]["fa"] is None and result["centroid"]["fa"] is None


def test_every_figure_is_defined():
    """What is not counted is a figure."""
    metrics = InfraredMetrics(Rule(0.5), [0.1, 0.5])
    metrics.update("x", PREDICTED.astype(float), TRUTH)
    result = metrics.result()
    figures = {name for name, value in result.items() if not isinstance(value, int)} - Rule(0.5).as_dict().keys()
    assert figures - {"rule"} == FORMULAS.keys() | CONVENTIONS.keys()
    assert {name: result[name]["convention"] for name in CONVENTIONS} == CONVENTIONS
    for name in ("overlap", "centroid"):
        ratios = {key for key, value in result[name].items() if isinstance(value, float)}
        assert ratios - {"false_components_per_megapixel"} == {"pd", "fa"}


@pytest.mark.parametrize("images", [0, 1])
def test_without_a_pixel_there_is_no_figure(images):
    metrics = InfraredMetrics(Rule(0.5), [0.1, 0.5])
    for _ in range(images):
        metrics.update("x", PREDICTED.astype(float), TRUTH, np.zeros_like(TRUTH))
    given = {*Rule(0.5).as_dict(), "thresholds", "auc_fa_range"}

    def numbers(table):
        for name, value in table.items():
            if isinstance(value, dict):
                yield from numbers(value)
            elif isinstance(value, float | list) and name not in given:
                yield name, value

    assert not dict(numbers(metrics.result()))


def test_nodata_pixels_are_left_out():
    valid = np.ones_like(TRUTH)
    valid[:2] = False  # the first target and its detection
    valid[5, 4] = False  # half of the false alarm
    row, result = scored(PREDICTED, TRUTH, valid)
    assert (row["targets"], row["tp"], row["fp"], row["fn"]) == (2, 1, 1, 2)
    assert (row["pixels"], row["nodata_pixels"]) == (39, 17)
    assert result["overlap"]["fa"] == pytest.approx(1 / 36)
    assert result["centroid"]["fa"] == pytest.approx(1 / 39)


def test_nan_is_fine_at_nodata_only():
    score, valid = np.full(TRUTH.shape, 0.2, np.float32), np.ones_like(TRUTH)
    score[3, 3] = np.nan
    valid[3, 3] = False
    metrics = InfraredMetrics(Rule(0.5), [0.1, 0.5])
    assert metrics.update("a", score, TRUTH, valid)["detections"] == 0
    assert metrics.result()["roc"]["overlap"]["fa"] == [1.0, 1.0, 0.0, 0.0]
    with pytest.raises(InputError, match=r"score of b\.png is NaN"):
        metrics.update("b.png", score, TRUTH)


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match=r"\(3, 3\)"):
        InfraredMetrics(None).update("a.png", np.zeros((3, 3), bool), TRUTH)
    with pytest.raises(UsageError, match="boolean masks take none"):
        InfraredMetrics(Rule(0.5)).update("a.png", PREDICTED, TRUTH)
    with pytest.raises(UsageError, match="scores need a threshold"):
        InfraredMetrics(None).update("a.png", PREDICTED.astype(float), TRUTH)
    with pytest.raises(UsageError, match="no ROC"):
        InfraredMetrics(None, [0.5])
    for bad in ([], [0.5, 0.4], [0.5, 0.5]):
        with pytest.raises(UsageError, match="ascending"):
            InfraredMetrics(Rule(0.5), bad)


def test_a_pixel_at_the_threshold_is_not_predicted():
    score = np.array([[0.5, np.nextafter(0.5, 1)]])
    assert InfraredMetrics(Rule(0.5)).update("a", score, score > 2)["fp"] == 1


def random_scores(seed, images=3):
    rng = np.random.default_rng(seed)
    for _ in range(images):
        truth = rng.random((20, 22)) < 0.02
        yield (rng.random((20, 22)) * 0.8 + 0.2 * truth).astype(np.float32), truth, rng.random((20, 22)) < 0.9


def test_roc_equals_one_evaluation_per_threshold():
    thresholds = [0.0, 0.1, 0.3, 0.5, 0.7, 0.75, 0.8, 0.9, 1.5]
    metrics = InfraredMetrics(Rule(0.5), thresholds)
    for score, truth, valid in random_scores(1):
        metrics.update("x", score, truth, valid)
    roc = metrics.result()["roc"]
    assert roc["centroid"]["thresholds"] == thresholds
    for convention, y in (("overlap", "fa"), ("centroid", "false_components_per_megapixel")):
        curve = roc[convention]
        for k in range(0, len(curve["thresholds"]), max(1, len(curve["thresholds"]) // 20)):
            single = InfraredMetrics(Rule(curve["thresholds"][k]))
            for score, truth, valid in random_scores(1):
                single.update("x", score, truth, valid)
            expected = single.result()[convention]
            assert curve["pd"][k] == pytest.approx(expected["pd"])
            assert curve[y][k] == pytest.approx(expected[y])


def roc_by_hand(score, truth):
    """Pd by overlap, and Fa, at every score; the truth's targets are single pixels."""
    cuts = np.unique(np.append(score, -1.0))
    return [float((score[~truth] > c).mean()) for c in cuts], [float((score[truth] > c).mean()) for c in cuts]


@pytest.mark.parametrize("threshold", [0.001, 0.5, 0.97])
def test_the_roc_depends_on_the_order_of_the_scores_alone(threshold):
    rng, truth = np.random.default_rng(0), np.zeros((128, 128), bool)
    truth[8::16, 8::16] = True
    plain = 0.6 * rng.random(truth.shape)
    plain[truth] += 0.4 * rng.random(truth.sum())
    auc = partial_auc(*roc_by_hand(plain, truth), 1e-3)
    assert 0.05 < auc < 0.95
    for score in (plain, plain.astype(np.float32), plain**16, (1 - (1 - plain) ** 4).astype(np.float32)):
        metrics = InfraredMetrics(Rule(threshold), roc_thresholds(threshold))
        metrics.update("x", score, truth)
        assert metrics.result()["roc"]["overlap"]["auc"] == pytest.approx(auc, abs=0.01)
        for pfa in (1e-3, 0.1):
            assert 0.85 * pfa < (score[~truth] > metrics.threshold_for_pfa(pfa)).mean() <= pfa


def test_roc_rounds_its_thresholds_as_the_cut_does():
    """float32(0.1) exceeds the double 0.1: the ROC and the plain cut must agree on such a pixel."""
    score = np.full((2, 2), 0.1, np.float32)
    metrics = InfraredMetrics(Rule(0.1), [0.1])
    assert metrics.update("x", score, np.zeros((2, 2), bool))["fp"] == 0
    assert metrics.result()["roc"]["centroid"]["false_components_per_megapixel"] == [0.0]


def test_roc_without_truth_has_false_alarms_only():
    metrics = InfraredMetrics(Rule(0.5), [0.1, 0.6])
    metrics.update("x", np.full((4, 4), 0.5), np.zeros((4, 4), bool))
    roc = metrics.result()["roc"]
    assert roc["overlap"]["fa"] == [1.0, 0.0]
    assert roc["overlap"]["pd"] is None and roc["overlap"]["auc"] is None
    assert roc["centroid"]["false_components_per_megapixel"] == [1e6 / 16, 0.0]
    json.dumps(metrics.result())


def test_threshold_for_a_wanted_false_alarm_rate():
    score = np.linspace(0, 0.99, 100).reshape(10, 10)
    metrics = InfraredMetrics(Rule(0.5), [0.5])
    with pytest.raises(UsageError, match="there are none"):
        metrics.threshold_for_pfa(0.1)
    metrics.update("x", score, np.zeros((10, 10), bool))
    assert metrics.threshold_for_pfa(0.1) == pytest.approx(0.89, rel=2**-11)  # 10 of 100 pixels lie above
    assert metrics.threshold_for_pfa(0.0999) == pytest.approx(0.9, rel=2**-11)
    assert metrics.threshold_for_pfa(0) == pytest.approx(0.99, rel=2**-11)
    assert metrics.threshold_for_pfa(1) == 0
    with pytest.raises(UsageError, match="thresholds for the ROC"):
        InfraredMetrics(Rule(0.5)).threshold_for_pfa(0.1)
    metrics.update("x", np.ones((10, 10)), np.zeros((10, 10), bool))
    with pytest.raises(UsageError, match=r"no threshold below 1 keeps false alarms at 0\.4"):
        metrics.threshold_for_pfa(0.4)
    with pytest.raises(InputError, match=r"the score of x lies outside \[0, 1\]"):
        metrics.update("x", score + 0.02, np.zeros((10, 10), bool))


def test_partial_auc_by_hand():
    # (0,0) - (0,.5) - (.2,.5) - (.4,1) - (1,1), thresholds ascending
    fa, pd = [0.4, 0.2, 0.0], [1.0, 0.5, 0.5]
    assert partial_auc(fa, pd, 0.2) == pytest.approx(0.5)
    assert partial_auc(fa, pd, 0.3) == pytest.approx((0.1 + 0.1 * (0.5 + 0.75) / 2) / 0.3)
    assert partial_auc(fa, pd, 1) == pytest.approx(0.1 + 0.15 + 0.6)
    assert partial_auc([], [], 1) == pytest.approx(0.5)
    with pytest.raises(UsageError, match="range of false alarm rates"):
        partial_auc(fa, pd, 0)


def test_auc_is_one_when_scores_separate_and_states_its_range():
    metrics = InfraredMetrics(Rule(0.5), roc_thresholds(0.5))
    metrics.update("x", np.where(TRUTH, 0.9, 0.1), TRUTH)
    assert metrics.result()["roc"]["overlap"]["auc"] == pytest.approx(1)
    assert metrics.result()["roc"]["overlap"]["auc_fa_range"] == [0.0, 0.001]


def test_roc_thresholds_ascend_around_the_stored_one():
    cuts = roc_thresholds(0.02)
    assert cuts[0] == 0 and (np.diff(cuts) > 0).all() and cuts[-1] < 1
    assert np.isclose(cuts, 0.02).any()
    with pytest.raises(UsageError, match="between 0 and 1"):
        roc_thresholds(1.0)


def test_legacy_rule_cuts_at_half_of_each_image_maximum():
    score = np.array([[0.001, 0.004, 0.002], [0.0021, 0.9, 0.0]])
    valid = np.array([[True, True, True], [True, False, True]])
    np.testing.assert_array_equal(legacy_half_maximum(score), [[0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(legacy_half_maximum(score, valid), [[0, 1, 0], [1, 0, 0]])
    assert not legacy_half_maximum(np.zeros((3, 3))).any()
    assert not legacy_half_maximum(-np.ones((3, 3))).any()
    assert not legacy_half_maximum(score, np.zeros_like(valid)).any()


def test_sets_added_together_are_the_figures_of_all_their_images():
    rng = np.random.default_rng(7)
    images = [
        (f"im{i}", rng.random((20, 24)), rng.random((20, 24)) > 0.97, rng.random((20, 24)) > 0.1) for i in range(6)
    ]
    grid = np.linspace(0, 0.99, 25)
    together = InfraredMetrics(Rule(0.9, 0.97), grid)
    parts = [InfraredMetrics(Rule(0.9, 0.97), grid) for _ in range(2)]
    total = InfraredMetrics(Rule(0.9, 0.97), grid)
    for i, image in enumerate(images):
        together.update(*image)
        parts[i // 3].update(*image)
    for part in parts:
        total.add(part)
    assert total.rows == together.rows and total.result() == together.result()
    assert len(parts[0].rows) == 3


def test_masked_pixels_do_not_count():
    hidden = np.zeros(TRUTH.shape, bool)
    hidden[0], hidden[5] = True, True
    expected = scored(PREDICTED, TRUTH, ~hidden)
    assert scored(np.ma.array(PREDICTED, mask=hidden), TRUTH) == expected
    assert scored(PREDICTED, np.ma.array(TRUTH, mask=hidden)) == expected
    everything = np.ones(TRUTH.shape, bool)
    assert scored(PREDICTED, TRUTH, np.ma.array(everything, mask=hidden)) == expected
    metrics = InfraredMetrics(None)
    metrics.update("x", PREDICTED, TRUTH, known=np.ma.array(everything, mask=hidden))
    assert metrics.result() == expected[1]
    score = np.where(hidden, 1e9, PREDICTED + 0.0)
    np.testing.assert_array_equal(
        legacy_half_maximum(np.ma.array(score, mask=hidden)), legacy_half_maximum(score, ~hidden)
    )


def test_masks_of_numbers_are_refused_rather_than_taken_as_indices():
    for given in ({"truth": TRUTH.astype(np.uint8)}, {"valid": TRUTH.astype(np.uint8)}, {"known": TRUTH + 0.0}):
        with pytest.raises(InputError, match="boolean"):
            InfraredMetrics(None).update("x", **{"score": PREDICTED, "truth": TRUTH, **given})
    with pytest.raises(InputError, match="boolean, got uint8"):
        legacy_half_maximum(PREDICTED + 0.0, TRUTH.astype(np.uint8))
    with pytest.raises(InputError, match="NaN at valid pixels"):
        legacy_half_maximum(np.where(TRUTH, np.nan, 0.5))
