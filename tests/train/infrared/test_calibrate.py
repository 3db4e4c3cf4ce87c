"""Temperature and threshold from validation logits."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from rsunfold.io.samples import LabelledImage, Sample
from rsunfold.metrics.infrared import InfraredMetrics
from rsunfold.rule import Rule
from rsunfold.train.infrared.calibrate import Calibration, calibrate, largest_area, temperature_of


def result(logits, truth, group="a", valid=None, known=None):
    logits = np.atleast_2d(np.asarray(logits, np.float32))
    truth = np.atleast_2d(np.asarray(truth, bool))
    valid, known = (
        np.ones(truth.shape, bool) if part is None else np.atleast_2d(np.asarray(part, bool)) for part in (valid, known)
    )
    return LabelledImage(Sample(group, "x", Path("x"), None), logits, truth, valid, known), logits


@pytest.mark.parametrize("temperature", [0.4, 1.0, 6.0, 40.0])
def test_temperature_of_simulated_logits(temperature):
    rng = np.random.default_rng(0)
    z = rng.normal(-1, 2, (200, 500))
    truth = rng.random(z.shape) < expit(z)
    assert temperature_of([result(temperature * z, truth)]) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("part", ["valid", "known"])
def test_temperature_leaves_out_what_does_not_count(part):
    rng = np.random.default_rng(1)
    z = rng.normal(0, 2, (100, 400))
    truth = rng.random(z.shape) < expit(z)
    counted = np.ones(z.shape, bool)
    counted[:, 200:] = False
    spoiled = np.where(counted, 3 * z, -50 * (2 * truth - 1))
    assert temperature_of([result(spoiled, truth, **{part: counted})]) == pytest.approx(3, rel=0.06)


def test_threshold_separates_what_can_be_separated():
    logits = [-6, -5, -4, 1, 2, 3]
    found = calibrate([result(logits, [0, 0, 0, 1, 1, 1]), result([-5, -6, -5, -5, -5, -4.5], [0] * 6, "sky")])
    score = found.score_of(np.array(logits, np.float32))
    np.testing.assert_array_equal(score > found.rule.threshold, [0, 0, 0, 1, 1, 1])
    assert found.silent == 1 and found.score == pytest.approx(1.1)


def scene_with_alarms(alarm: float, skies: int, with_alarm: int):
    """Calibrated logits of a scene with targets, and target-free images of which some have one pixel at ``alarm``."""
    rng = np.random.default_rng(2)
    z = rng.normal(-1, 3, (100, 100))
    empty = [result([alarm if i < with_alarm else -30.0, -30.0], [0, 0], "sky") for i in range(skies)]
    return [result(z, rng.random(z.shape) < expit(z)), *empty]


def test_quiet_rule_decides_between_thresholds():
    results = scene_with_alarms(alarm=3.5, skies=20, with_alarm=3)
    loose, strict = calibrate(results, quiet=0.85), calibrate(results, quiet=0.9)
    assert loose.temperature == strict.temperature == pytest.approx(1, rel=0.05)
    alarm = expit(3.5 / strict.temperature)
    assert loose.silent == pytest.approx(0.85) and loose.rule.threshold <= loose.rule.confidence < alarm
    assert strict.silent == 1 and alarm <= strict.rule.confidence + 1e-4
    assert loose.score > strict.score


def test_where_no_threshold_is_quiet_the_quietest_is_taken_with_its_best_iou():
    results = scene_with_alarms(alarm=30.0, skies=20, with_alarm=3)
    found = calibrate(results, quiet=0.9)
    assert found.silent == pytest.approx(0.85)
    assert found == calibrate(results, quiet=0.85)


def test_confidence_drops_clutter_with_one_good_pixel_and_threshold_keeps_the_extent():
    target = result([-9.0, 3.0, 8.0, 3.0, -9.0, 1.0, 9.0, 1.0, 1.0, -9.0], [0, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    found = calibrate([target, result([1.0, 9.0, 1.0, 1.0], [0, 0, 0, 0], "sky")], reaches=[None])
    image, logits = target
    np.testing.assert_array_equal(found.rule.detected(found.score_of(logits), image.valid), image.truth)
    assert found.score == pytest.approx(1.1) and found.silent == 1
    assert found.rule.threshold < expit(1 / found.temperature) and expit(3 / found.temperature) <= found.rule.confidence


def test_others_around_are_counted_where_that_separates_targets_from_clutter():
    def scene(levels, truth, group="a"):
        row, marked = np.full(12 * len(levels), -12.0), np.zeros(12 * len(levels))
        row[::12], marked[::12] = levels, truth
        return result(row, marked, group)

    crowd = [4.0, 3.8, 3.6, 3.4, 3.2]  # stronger than any target, but one of many
    results = [scene([2.9], [1]), scene([3.1, -9.0], [1, 0]), scene(crowd, [0] * 5, "sky")]
    alone, best = calibrate(results, reaches=[None]), calibrate(results)
    assert alone.silent == 1 and alone.score < 0.2 and alone.rule.reach is None
    assert best.score == pytest.approx(1.1) and best.rule.reach == 128
    for image, logits in results:
        np.testing.assert_array_equal(best.rule.detected(best.score_of(logits), image.valid), image.truth)
    assert calibrate(results[:2]).rule.reach is None  # where it makes no difference, each is judged alone


def test_score_is_the_geometric_mean_over_sets_of_the_pooled_iou():
    # a: pooled over its two images 3 hits, 1 miss -> 3/4; b: 1 hit, 1 false -> 1/2
    a = [result([9.0, 9.0, -9.0], [1, 1, 0], "a"), result([9.0, -9.0, -9.0], [1, 1, 0], "a")]
    b = [result([9.0, 9.0, -9.0], [1, 0, 0], "b")]
    found = calibrate([*a, *b])
    assert found.score == pytest.approx((3 / 4 * 1 / 2) ** 0.5 + 0.1)
    assert found.silent is None


def test_invalid_pixels_neither_count_nor_alarm():
    target = result([3.0, 9.0, -3.0], [1, 0, 0], valid=[1, 0, 1])
    sky = result([9.0, -3.0, -3.0], [0, 0, 0], "sky", valid=[0, 1, 1])
    found = calibrate([target, sky])
    assert found.score == pytest.approx(1.1) and found.silent == 1


def test_what_nobody_has_labelled_counts_for_nothing_but_as_clutter(monkeypatch):
    monkeypatch.setattr("rsunfold.train.infrared.calibrate.temperature_of", lambda results: 1.0)
    row, truth, known = np.full(60, -12.0), np.zeros(60), np.ones(60)
    row[0], truth[0], row[12::6], known[6:] = 3.5, 1, 3.4, 0  # one target, eight others in what is unknown
    clutter = result([2.9, -12.0], [0, 0])
    best, around = (calibrate([result(row, truth, known=known), clutter], reaches=r) for r in ([None, 128], [128]))
    assert best.score == pytest.approx(1.1) and best.rule.reach is None
    assert around.score < 0.7  # a rule that the target meets among nine leaves the clutter that is alone
    metrics = InfraredMetrics(best.rule)
    image, logits = result(row, truth, known=known)
    metrics.update("a", best.score_of(logits), image.truth, image.valid, image.known)
    assert metrics.result()["iou_pooled"] == 1
    assert calibrate([result(row, truth, valid=known), clutter], reaches=[128]).score == pytest.approx(1.1)


def test_score_of_is_the_sigmoid_of_the_scaled_logit():
    c = Calibration(temperature=4.0, rule=Rule(0.5), score=0.0, silent=1.0)
    score = c.score_of(np.array([[-8.0, 0.0, 4.0]], np.float32))
    assert score.dtype == np.float32
    np.testing.assert_allclose(score, [[1 / (1 + np.e**2), 0.5, 1 / (1 + np.e**-1)]], rtol=1e-6)


def test_large_bright_regions_are_no_targets_where_an_area_is_given():
    pairs = [-6.0, 6.0] * 100
    target = result([*pairs, -6.0, 8.0, 8.0, 8.0], [*(z > 0 for z in pairs), 0, 0, 0, 0])
    sky = result([8.0, 8.0, 8.0, *[-6.0] * 100], [0] * 103, "sky")
    free, limited = calibrate([target, sky]), calibrate([target, sky], 2)
    assert limited.rule.max_area == 2 and free.rule.max_area is None
    assert limited.score == pytest.approx(1.1) and limited.silent == 1
    assert free.score < 0.2  # silent at the price of every target


def test_the_largest_area_is_that_of_all_but_a_few_targets():
    truth = np.zeros((40, 1000), bool)
    truth[::2, ::2] = True  # 10,000 targets of one pixel
    truth[0:3, 900:] = True  # 1 of 150 pixels or more
    assert largest_area([truth]) == 1
    assert largest_area([np.zeros((5, 5), bool)]) is None and largest_area([]) is None


@pytest.mark.parametrize("targets", [1, 20, 199, 200, 500])
def test_few_targets_tell_no_largest_area(targets):
    truth = np.zeros((3, 3 * targets + 8), bool)
    truth[0, : 3 * targets : 3] = True
    truth[:, 3 * targets + 1 :] = targets >= 200  # one more, larger
    found = largest_area([truth])
    assert found == (1 if targets >= 200 else None)
