"""Networks on maps that are kept on disk: the same numbers as in memory, in bounded room."""

import errno
import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from rsunfold.cube import Window
from rsunfold.infer.outofcore import Canvas, Room
from rsunfold.registry import all_models
from rsunfold.simulate.infrared import point_spread
from rsunfold.unfold.fast import for_inference
from rsunfold.unfold.unrolled import Record

CPU = torch.device("cpu")
NETWORKS = [m.name for m in all_models("detect-ir", "network")]
MAPS = {"rpcanet-pp": (16,)}
"""Channels of the maps that a tiny network hands from stage to stage, beside its variables of one channel."""
SIZES = [(1, 1), (1, 97), (97, 1), (2, 40), (33, 65), (64, 64), (90, 71)]


def picture(rows: int, cols: int) -> np.ndarray:
    """Noise and a spot on a ramp, float32 (rows, cols)."""
    noise = np.random.default_rng(rows * 1000 + cols).normal(0, 0.05, (rows, cols))
    ramp = np.linspace(0, 1.5, rows)[:, None]
    return (noise + ramp + 0.3 * point_spread(rows, cols, rows / 3, cols / 2, 1.5)).astype(np.float32)


def by_tiles(net, image: np.ndarray, tile: int, folder: Path, keep=None, reconstruct: bool = True):
    canvas = Canvas(*image.shape, tile, folder, CPU, len(net.stages))
    with torch.inference_mode():
        T, D = net(canvas.load(lambda w: image[w.slices]), keep=keep or canvas.keep, reconstruct=reconstruct)
    return canvas, T, D


def whole(value) -> np.ndarray:
    """A map read at once."""
    canvas = value.canvas
    return value.read(Window(0, 0, canvas.rows, canvas.cols))[0, 0].numpy()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_variable_of_every_stage_equals_that_in_memory(name, size, tmp_path, random_network):
    net, image = random_network(name), picture(*size)
    dense = Record()
    with torch.inference_mode():
        T, D = net(torch.from_numpy(image)[None, None], keep=dense, reconstruct=True)
    stored = Record()
    canvas = Canvas(*size, 24, tmp_path / "maps", CPU, len(net.stages))
    with torch.inference_mode():
        found = for_inference(net)(
            canvas.load(lambda w: image[w.slices]),
            keep=lambda k, letter, value: stored(k, letter, canvas.keep(k, letter, value)),
            reconstruct=True,
        )
    limit = 1e-4 * max(1e-3, float(T.max() - T.min()))
    for ours, theirs in zip(found, (T, D), strict=True):
        np.testing.assert_allclose(whole(ours), theirs[0, 0].numpy(), rtol=0, atol=limit)
    assert len(stored.stages) == len(dense.stages) == len(net.stages)
    for ours, theirs in zip(stored.stages, dense.stages, strict=True):
        assert list(ours) == list(theirs) == list(net.letters)
        for letter, value in ours.items():
            expected = theirs[letter][0, 0].numpy()
            close = 1e-4 * max(1e-3, float(np.ptp(expected)))
            np.testing.assert_allclose(whole(value), expected, rtol=0, atol=close, err_msg=letter)
    canvas.close()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("tile", [16, 40, 64, 500])
def test_the_tile_does_not_matter(name, tile, tmp_path, random_network):
    net, image = for_inference(random_network(name)), picture(90, 71)
    with torch.inference_mode():
        expected = net(torch.from_numpy(image)[None, None])[0][0, 0].numpy()
    canvas, T, D = by_tiles(net, image, tile, tmp_path / "maps", reconstruct=False)
    assert D is None
    np.testing.assert_allclose(whole(T), expected, rtol=0, atol=1e-4 * np.ptp(expected))
    canvas.close()


@pytest.mark.parametrize("name", ["l-rpcanet", "rpcanet-pp", "drpca-net"])
def test_channel_attention_looks_at_the_whole_image_and_not_at_the_tile(name, random_network):
    """The tiles' own means would give something else: else the test above could not fail."""
    net, image = for_inference(random_network(name)), picture(90, 71)
    image[40:] *= 4
    with torch.inference_mode():
        dense = net(torch.from_numpy(image)[None, None])[0][0, 0].numpy()
        part = net(torch.from_numpy(image[:40].copy())[None, None])[0][0, 0].numpy()[:16]
    assert np.abs(part - dense[:16]).max() > 5e-4 * np.ptp(dense)


@pytest.mark.parametrize("name", NETWORKS)
def test_room_on_disk_does_not_grow_with_the_stages(name, tmp_path, random_network):
    image = picture(40, 40)
    rooms, handed_on = {}, MAPS.get(name, ())
    gc.disable()  # rooms are free when the last reference goes, not when the collector comes round
    try:
        for K in (2, 3, 6):
            canvas, _, _ = by_tiles(random_network(name, K=K), image, 24, tmp_path / f"{K}", reconstruct=False)
            canvas.close()
            files = list((tmp_path / f"{K}").iterdir())
            rooms[K] = len(files)
            assert {f.stat().st_size for f in files} == {40 * 40 * 4 * channels for channels in (1, *handed_on)}
    finally:
        gc.enable()
    assert rooms[6] == rooms[3] <= 8
    assert rooms[2] <= rooms[3]


def test_room_is_used_again(tmp_path):
    canvas = Canvas(5, 7, 4, tmp_path / "maps", CPU, 1)
    first = canvas.load(lambda w: np.ones((w.height, w.width), np.float32))
    room = first.room
    twice = first + first
    del first
    second = canvas.keep(0, "B", twice)  # what is noted still needs the first map
    assert second.room is not room
    np.testing.assert_array_equal(whole(second), 2)
    del twice
    third = canvas.load(lambda w: np.full((w.height, w.width), 3, np.float32))
    assert third.room is room
    np.testing.assert_array_equal(whole(second), 2)
    canvas.close()


def test_sums_and_products_of_maps(tmp_path):
    canvas = Canvas(6, 5, 4, tmp_path / "maps", CPU, 1)
    a, b = np.arange(30, dtype=np.float32).reshape(6, 5), np.full((6, 5), 2, np.float32)
    A, B = canvas.load(lambda w: a[w.slices]), canvas.load(lambda w: b[w.slices])
    eps = torch.nn.Parameter(torch.tensor([0.5]))
    with torch.inference_mode():
        for lazy, expected in (
            (A + B, a + b),
            (A - B, a - b),
            (0.0 + A, a),
            (A - 0.0, a),
            (1.0 - A, 1 - a),
            (A - eps * B, a - 1),
            (A * 3, 3 * a),
        ):
            np.testing.assert_array_equal(whole(canvas.keep(0, "B", lazy)), expected)
            part = lazy.read(Window(2, 1, 3, 2))
            np.testing.assert_array_equal(part[0, 0].numpy(), expected[2:5, 1:3])
    canvas.close()


def test_room_is_taken_on_the_disk_at_once(tmp_path):
    room = Room(tmp_path / "map", 3, 100, 200)
    assert (tmp_path / "map").stat().st_blocks * 512 >= 4 * 3 * 100 * 200
    room.close()
    with pytest.raises(OSError) as caught:
        Room(tmp_path / "huge", 1, 2**30, 2**28)  # 2^60 bytes
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)


def test_a_full_disk_is_an_error_of_the_operating_system():
    room = Room(Path("/dev/full"), 1, 10, 10)
    with pytest.raises(OSError, match="No space left"):
        room.write(Window(0, 0, 2, 10), np.zeros((1, 2, 10), np.float32))
    room.close()
