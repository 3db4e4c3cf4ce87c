"""What is held out, and the augmented crops of the rest."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

from rsunfold.errors import InputError
from rsunfold.io.samples import LabelledImage, Sample
from rsunfold.train.infrared.data import Crops, carve, error_places, near_duplicates, sequences
from rsunfold.train.infrared.recipe import Augment

PLAIN = Augment(crop=24, on_target=0.75, contrast=0.0, brightness=0.0, gauss=0.0, salt=0.0, paste=0.5)


def sky(seed: int, side: int = 96) -> np.ndarray:
    """A smooth random picture with values in about 0.2 to 0.5."""
    rough = np.random.default_rng(seed).random((9, 9))
    return (0.2 + 0.3 * zoom(rough, side / 9, order=1, grid_mode=True, mode="nearest")).astype(np.float32)


def samples(*names: str) -> list[Sample]:
    return [Sample(n.split("/")[0], n.split("/")[1], Path(n), None) for n in names]


# ------------------------------------------------------------------ validation


def test_near_duplicates_are_found_and_others_are_not():
    base = sky(0)
    noise = np.random.default_rng(1).normal(0, 0.01, base.shape).astype(np.float32)
    images = {
        "g/base": base,
        "g/noisy": base + noise,
        "h/brighter": base + 0.3,
        "h/darker": base - 0.19,
        "h/stronger": 1.5 * base,
        **{f"g/other{10 * i}": sky(i) for i in range(1, 9)},
    }
    found = near_duplicates(list(images.values()), list(images))
    assert len(set(found[:5])) == 1
    assert len(set(found[4:])) == 9


def test_frames_of_one_sequence_are_linked_by_name_and_likeness():
    frame, later = sky(0), np.roll(sky(0), 2, axis=1) + np.random.default_rng(2).normal(0, 0.02, (96, 96))
    images = [frame, later.astype(np.float32), sky(5)]
    assert list(near_duplicates(images, ["a/x009", "a/x010", "a/x011"])) == [0, 0, 1]
    mirrored = [frame, frame[:, ::-1].copy()]  # names that follow one another are not enough
    assert len(set(near_duplicates(mirrored, ["a/x1", "a/x2"]))) == 2


def test_frames_of_a_camera_that_moves_stay_together_and_others_do_not():
    scene = zoom(np.random.default_rng(0).random((25, 25)), 16, order=1).astype(np.float32)  # (400, 400)
    noise = np.random.default_rng(1)

    def flight(count: int, step: int) -> list[np.ndarray]:
        frames = [scene[10 * k : 10 * k + 160, step * k : step * k + 200] for k in range(count)]
        return [(f + noise.normal(0, 0.02, f.shape)).astype(np.float32) for f in frames]

    frames = flight(7, 30)
    names = [f"f/shot{5 * k}_ir" for k in range(7)]  # numbered with gaps, not padded
    order = noise.permutation(7)
    found = near_duplicates([frames[i] for i in order] + [sky(1), sky(2)], [names[i] for i in order] + ["f/a", "g/a"])
    assert len(set(found[:7])) == 1 and len(set(found)) == 3
    assert len(set(near_duplicates(frames[:3], names[:3]))) == 3  # three may be alike by chance
    assert len(set(near_duplicates(frames, [f"{k}/x" for k in range(7)]))) == 7
    assert len(set(near_duplicates(flight(4, 80), names[:4]))) == 4
    horizons = [np.where(np.arange(96)[:, None] < 40 + 2 * k, 0.25, 0.6) + 0.05 * sky(k) for k in range(6)]
    assert not list(sequences([h.astype(np.float32) for h in horizons], [f"a/{k}" for k in range(6)]))
    flat = [np.full((40, 50), 0.3, np.float32)] * 5
    assert not list(sequences(flat, [f"a/{k}" for k in range(5)]))


def test_carving_keeps_near_duplicates_on_one_side_and_the_shares():
    names, images = [], []
    for i in range(30):
        names.append(f"a/{i}x")
        images.append(sky(i))
    for i in range(10):  # of another set, each a brighter copy of one in the first
        names.append(f"b/{i}y")
        images.append(sky(i) + 0.2)
    for i in range(10):
        names.append(f"b/{i}z")
        images.append(sky(100 + i))
    for seed in range(5):
        held = carve(samples(*names), images, {"b": 0.3}, 0.2, seed)
        assert held == carve(samples(*names), images, {"b": 0.3}, 0.2, seed)
        assert held[:10] == held[30:40]
        assert sum(held[:30]) == 6 and sum(held[30:]) == 6
    assert len({tuple(carve(samples(*names), images, {}, 0.2, seed)) for seed in range(5)}) == 5


def test_a_long_sequence_never_becomes_all_of_validation():
    sequence = [sky(0) + 0.01 * i for i in range(8)]
    images = [*sequence, *(sky(i) for i in range(1, 13))]
    names = [f"a/s{i}" for i in range(8)] + [f"a/{i}x" for i in range(12)]
    for seed in range(10):
        held = carve(samples(*names), images, {}, 0.2, seed)
        assert not any(held[:8]) and sum(held) == 4


# ------------------------------------------------------------------ crops


def scene(seed: int, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A picture that is 0.9 on an L-shaped target and 0.1 elsewhere, and its truth."""
    r, c = np.random.default_rng(seed).integers(8, side - 14, 2)
    truth = np.zeros((side, side + 9), bool)
    truth[r : r + 6, c : c + 2] = truth[r + 4 : r + 6, c : c + 4] = True
    return np.where(truth, 0.9, 0.1).astype(np.float32), truth


def labelled(name: str, gray: np.ndarray, truth: np.ndarray, valid=None, known=None) -> LabelledImage:
    every = np.ones_like(truth)
    return LabelledImage(
        *samples(name), gray, truth, every if valid is None else valid, every if known is None else known
    )


def crops(augment: Augment = PLAIN, *, count: int = 4, seed: int = 0, weights=None, make=scene) -> Crops:
    images = [labelled(f"{'ab'[i % 2]}/{i}", *make(i)) for i in range(count)]
    return Crops(images, augment, weights or {}, seed, torch.device("cpu"))


def test_batches_depend_on_seed_rank_and_step_alone():
    full = replace(PLAIN, contrast=0.3, brightness=0.1, gauss=0.05, salt=0.01)
    one, again = crops(full), crops(full)
    first = one.batch(5, 6)
    one.batch(6, 6)
    for a, b in zip(first, again.batch(5, 6), strict=True):
        assert torch.equal(a, b)
    for other in (one.batch(6, 6), one.batch(5, 6, rank=1), crops(full, seed=1).batch(5, 6)):
        assert not torch.equal(first[0], other[0])


def test_shapes_types_and_values():
    x, y, v = crops(replace(PLAIN, contrast=0.3, brightness=0.1, gauss=0.05, salt=0.01)).batch(0, 64)
    assert v.shape == y.shape and v.dtype == torch.float32 and (v == 1).all()
    assert x.shape == y.shape == (64, 1, 24, 24) and x.dtype == y.dtype == torch.float32
    assert set(y.unique().tolist()) == {0.0, 1.0} and x.isfinite().all()


@pytest.mark.parametrize("contrast", [0.0, 0.3])
def test_truth_stays_aligned_with_the_picture(contrast):
    x, y, _ = crops(replace(PLAIN, contrast=contrast, brightness=contrast / 3)).batch(1, 300)
    holding = 0
    for image, truth in zip(x[:, 0], y[:, 0].bool(), strict=True):
        if truth.any() and not truth.all():
            assert image[truth].min() >= image[~truth].max() - 1e-3
            holding += 1
            if not contrast:
                clear = (image - 0.5).abs() > 1e-2
                assert torch.equal((image > 0.5)[clear], truth[clear])
    assert holding > 200


def test_all_eight_orientations_and_several_scales_occur():
    def corner(seed):
        truth = np.zeros((12, 12), bool)
        truth[:6, :3] = True
        return truth.astype(np.float32), truth

    whole = replace(PLAIN, crop=12, paste=0.0, scale=(1.0, 1.0))
    _, y, _ = crops(whole, count=1, make=corner).batch(0, 200)
    assert {tuple(t.flatten().int().tolist()) for t in y} == {
        tuple(np.ascontiguousarray(t).flatten().astype(int)) for t in orientations(corner(0)[1])
    }
    areas = crops(replace(PLAIN, paste=0.0, on_target=1.0)).batch(0, 200)[1].sum((1, 2, 3))
    assert areas.min() < 8 and areas.max() > 48  # 16 pixels at scale 1


def orientations(truth: np.ndarray) -> list[np.ndarray]:
    return [np.rot90(t, k) for t in (truth, truth.T) for k in range(4)]


def test_crops_on_a_target_hold_it():
    certain = replace(PLAIN, on_target=1.0, paste=0.0, scale=(1.0, 1.0))
    assert crops(certain).batch(0, 200)[1].flatten(1).any(1).all()
    assert not crops(replace(certain, on_target=0.0)).batch(0, 200)[1].flatten(1).any(1).all()


def test_pasted_targets_come_with_their_truth():
    def empty_or_not(seed):
        return scene(seed) if seed == 0 else (np.full((64, 73), 0.1, np.float32), np.zeros((64, 73), bool))

    only_empty = {"a": 1e-9, "b": 1.0}
    pasted = crops(replace(PLAIN, paste=1.0), count=2, weights=only_empty, make=empty_or_not).batch(0, 50)
    assert pasted[1].flatten(1).any(1).all()
    assert (pasted[0][pasted[1].bool()] > 0.6).all() and (pasted[0][~pasted[1].bool()] < 0.2).all()
    without = crops(replace(PLAIN, paste=0.0), count=2, weights=only_empty, make=empty_or_not).batch(0, 50)
    assert not without[1].any()


def test_weights_decide_how_often_a_set_is_drawn():
    def marked(seed):
        return np.full((32, 32), 0.25 * (seed % 2), np.float32), np.zeros((32, 32), bool)

    x, _, _ = crops(count=2, weights={"a": 1.0, "b": 3.0}, make=marked).batch(0, 400)
    assert 0.68 < (x[:, 0, 0, 0] > 0.1).float().mean() < 0.82
    with pytest.raises(InputError, match="every one of the sets a, b has weight 0"):
        crops(count=2, weights={"a": 0.0, "b": 0}, make=marked)


def test_noise_is_drawn_where_asked():
    def flat(seed):
        return np.full((32, 32), 0.5, np.float32), np.zeros((32, 32), bool)

    def spread(**changes):
        x = crops(replace(PLAIN, paste=0.0, **changes), count=1, make=flat).batch(0, 100)[0]
        return x.flatten(1).std(1), x

    assert spread()[0].max() < 1e-3
    std, _ = spread(gauss=0.1)
    assert 0.1 < (std > 1e-3).float().mean() < 0.5 and std.max() < 0.12
    _, x = spread(salt=0.2)
    assert (x == 0).any() and (x == 1).any()


@pytest.mark.parametrize("part", ["valid", "known"])
def test_what_does_not_count_is_marked_and_no_target(part):
    """An L-shaped target that is known, beside a brighter one that is not."""
    image, truth = scene(0)
    image, truth, counted = image.copy(), truth.copy(), np.ones_like(truth)
    image[:6, 18:24], truth[:6, 18:24], counted[:7, 17:25] = 0.98, True, False
    images, full = [labelled("a/x", image, truth, **{part: counted})], replace(PLAIN, contrast=0.0, brightness=0.0)
    made = Crops(images, replace(full, paste=0.0), {}, 0, torch.device("cpu"))
    assert len(made.centres[0]) == 1 and len(made.chips) == 1
    x, y, v = made.batch(0, 300)
    unknown = x > 0.95
    assert unknown.any() and not v[unknown].any() and not y[unknown].any()
    assert y.any() and v[y.bool()].all()
    pasted = Crops(images, replace(full, paste=1.0), {}, 0, torch.device("cpu"))
    _, y, v = pasted.batch(0, 300)
    assert not y[v == 0].any()


def test_gray_beyond_the_percentiles_is_kept():
    def bright(seed):
        image, truth = scene(seed)
        return np.where(truth, np.float32(2), image), truth

    x, y, _ = crops(replace(PLAIN, contrast=0.3, brightness=0.1, paste=0.0, scale=(1, 1)), make=bright).batch(0, 100)
    assert x[y.bool()].min() > 1.1 and x.max() <= 2.4
    pasted = crops(replace(PLAIN, paste=1.0, on_target=0.0, scale=(1, 1)), make=bright).batch(0, 100)[0]
    assert pasted.max() > 1.5
    saturating = crops(replace(PLAIN, contrast=0.3, brightness=0.1, paste=1.0)).batch(0, 100)[0]
    assert saturating.min() >= 0 and saturating.max() <= 1


def test_nothing_is_pasted_from_a_set_that_is_not_drawn():
    def marked(seed):
        return scene(seed) if seed == 1 else (np.full((64, 73), 0.1, np.float32), np.zeros((64, 73), bool))

    made = crops(replace(PLAIN, paste=1.0), count=2, weights={"a": 1.0, "b": 0.0}, make=marked)
    assert made.chips == [] and not made.batch(0, 20)[1].any()


@pytest.mark.parametrize("crop", [1, 3, 24, 100])
def test_crops_smaller_than_targets_and_larger_than_images(crop):
    x, y, _ = crops(replace(PLAIN, crop=crop, paste=1.0)).batch(0, 40)
    assert x.shape == y.shape == (40, 1, crop, crop) and x.isfinite().all()


# ------------------------------------------------------------------ errors


def test_errors_are_where_the_scores_are_wrong():
    truth, valid = np.zeros((50, 40), bool), np.ones((50, 40), bool)
    truth[3:6, 3:6] = truth[36:38, 20:22] = True
    logits = np.full((50, 40), -9.0, np.float32)
    logits[3:6, 3:6] = 9  # found
    logits[20:23, 33:36] = 2.5  # a false alarm
    logits[0, 39], valid[0, 39] = 99, False
    places = error_places(logits, truth, valid)
    assert places.dtype == np.float32
    assert [tuple(p[:2]) for p in places] == [(24, 40), (40, 24)]  # squares of 16 pixels, the last one cut
    assert places[:, 2] == pytest.approx([9 * np.log1p(np.exp(2.5)), 4 * 5.0], rel=1e-2)  # a pixel counts 5 at most


def test_crops_are_drawn_on_errors_of_their_set():
    levels = {"a/x": 0.1, "a/y": 0.3, "b/z": 0.6}
    nothing = np.zeros((96, 96), bool)
    images = [labelled(name, np.full((96, 96), level, np.float32), nothing) for name, level in levels.items()]
    augment = replace(PLAIN, on_error=1.0, scale=(1.0, 1.0), paste=0.0)
    made = Crops(images, augment, {"b": 0.0}, 0, torch.device("cpu"))
    for image, (row, col) in zip(made.images, ((8, 8), (88, 88), (40, 40)), strict=True):
        image[row, col] = 1.0
    made.errors = [np.zeros((0, 3), np.float32), np.array([[88, 88, 2.0]], np.float32), np.array([[40, 40, 1]], "f4")]
    drawn = made.batch(0, 40)[0]
    assert torch.allclose(drawn.flatten(1).min(1).values, torch.tensor(0.3), atol=1e-3)  # y alone has errors
    assert (drawn.flatten(1).max(1).values > 0.99).all()
    made.errors[1] = made.errors[0]
    assert len(made.batch(0, 4)[0]) == 4  # nothing left to draw: crops of anywhere
