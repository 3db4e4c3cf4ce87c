"""Training images in memory: what is held out for validation, and augmented crops of the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.fft import dctn, irfft2, next_fast_len, rfft2
from scipy.ndimage import center_of_mass, find_objects, gaussian_filter, label, zoom
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from rsunfold.errors import InputError
from rsunfold.io.samples import LabelledImage, Sample
from rsunfold.simulate.corruption import ends, with_gaussian, with_salt_pepper
from rsunfold.train.infrared.recipe import Augment


def perceptual_hash(gray: NDArray[np.float32]) -> NDArray[np.bool_]:
    """64-bit perceptual hash: signs of the 8x8 lowest cosine coefficients of the 32x32 thumbnail about their median."""
    low = dctn(thumbnail(gray, 32), norm="ortho")[:8, :8].ravel()
    return np.asarray(low > np.median(low[1:]))


def thumbnail(gray: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """The image resampled to side x side."""
    small = zoom(
        gray.astype(np.float64), (side / gray.shape[0], side / gray.shape[1]), order=1, grid_mode=True, mode="nearest"
    )
    return np.asarray(small)


def near_duplicates(images: list[NDArray[np.float32]], names: list[str]) -> NDArray[np.int64]:
    """A group number per image: near-duplicates, and what is linked through them, share one.

    Two images are near-duplicates when their perceptual hashes differ in at most 4 bits and the cosine of their 64x64
    thumbnails is above 0.995, or above 0.95 once their means are taken off (a copy may be brighter or stronger); also
    when their names follow one another (frames of one sequence) and the latter cosine is above 0.9, and when they
    follow one another in a :func:`sequences` of a moving camera.
    """
    signs = np.array([perceptual_hash(im) for im in images], np.float32) * 2 - 1
    thumbs = np.array([thumbnail(im, 64).ravel() for im in images])
    alike = _unit(thumbs) @ _unit(thumbs).T
    centred = _unit(thumbs - thumbs.mean(axis=1, keepdims=True))
    similar = centred @ centred.T
    bits = (signs.shape[1] - signs @ signs.T) / 2
    linked = (bits <= 4) & ((alike > 0.995) | (similar > 0.95))
    number = {n: i for i, n in enumerate(names)}
    for i, name in enumerate(names):
        m = re.fullmatch(r"(.*?)(\d+)", name)
        after = f"{m[1]}{int(m[2]) + 1:0{len(m[2])}d}" if m else None
        if after in number:
            j = number[after]
            linked[i, j] |= bool(similar[i, j] > 0.9)
    for i, j in sequences(images, names):
        linked[i, j] = True
    return np.asarray(connected_components(linked, directed=False)[1], np.int64)


def sequences(images: list[NDArray[np.float32]], names: list[str]) -> Iterator[tuple[int, int]]:
    """Pairs of successive frames of which a camera that moves has taken at least four in a row.

    Frames succeed one another in the order of the numbers in their names, within a set (what stands before the last
    slash). They overlap when the correlation of their 64x64 thumbnails, shifted by at most a quarter, is above 0.8
    without the means of their rows and columns, by which any two horizons are alike. For crops that move across real
    images it is above 0.88; of the unrelated images of published sets, no two pairs in a row reach 0.8.
    """
    from skimage.transform import resize_local_mean

    side, reach, least = 64, 16, 3
    means = (resize_local_mean(im.astype(np.float64), (side, side)) for im in images)  # type: ignore[no-untyped-call]
    smooth = (gaussian_filter(mean, 0.7) for mean in means)  # a shift by parts of a pixel then changes little
    small = [x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) for x in smooth]
    order = sorted(range(len(names)), key=lambda i: _natural(names[i]))
    for _, members in groupby(order, key=lambda i: names[i].rpartition("/")[0]):
        pairs = list(pairwise(members))
        overlap = (_overlap(small[i], small[j], reach) > 0.8 for i, j in pairs)
        for moved, run in groupby(zip(overlap, pairs, strict=True), key=lambda of: of[0]):
            found = [pair for _, pair in run]
            if moved and len(found) >= least:
                yield from found


def _natural(name: str) -> tuple[str, list[tuple[int, str]]]:
    """Sorts names by their sets, and within these by numbers as numbers."""
    group, _, stem = name.rpartition("/")
    return group, [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", stem)]


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64], reach: int) -> float:
    """Largest correlation of two square images over what they share when one is shifted by up to ``reach`` pixels."""
    side = next_fast_len(a.shape[0] + reach, real=True)
    shifts = np.ix_(*[np.r_[: reach + 1, -reach:0]] * 2)
    a, b = a - a.mean(), b - b.mean()
    A, A2, B, B2, One = (rfft2(x, (side, side)) for x in (a, a * a, b, b * b, np.ones_like(a)))

    def shared(x: NDArray[np.complex128], y: NDArray[np.complex128]) -> NDArray[np.float64]:
        return np.asarray(irfft2(x * y.conj(), (side, side))[shifts])

    n, sum_a, sum_b = shared(One, One), shared(A, One), shared(One, B)
    variance_a, variance_b = shared(A2, One) - sum_a**2 / n, shared(One, B2) - sum_b**2 / n
    # An image that is constant but for rounding follows nothing.
    scale = np.maximum(variance_a, 1e-9 * (a * a).sum() + 1e-30) * np.maximum(variance_b, 1e-9 * (b * b).sum() + 1e-30)
    return float(((shared(A, B) - sum_a * sum_b / n) / np.sqrt(scale)).max())


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def carve(
    samples: list[Sample], images: list[NDArray[np.float32]], share: dict[str, float], default: float, seed: int
) -> list[bool]:
    """True for the samples that are validation: ``share`` of each set (``default`` for those it does not name).

    Near-duplicates, of other sets too, fall on one side; a cluster that would overshoot the share stays in training,
    so that one long sequence cannot be all of validation. Where all would, the smallest of several is held out, if all
    its sets have a share.
    """
    clusters = near_duplicates(images, [f"{s.group}/{s.name}" for s in samples])
    groups = np.array([s.group for s in samples])
    left = {g: round(share.get(g, default) * int((groups == g).sum())) for g in np.unique(groups)}
    held = np.zeros(len(samples), bool)
    for cluster in np.random.default_rng(seed).permutation(clusters.max() + 1):
        members = clusters == cluster
        counts = {g: int((members & (groups == g)).sum()) for g in np.unique(groups[members])}
        if all(n <= left[g] for g, n in counts.items()):
            held |= members
            for g, n in counts.items():
                left[g] -= n
    sizes = np.bincount(clusters).astype(float)
    sizes[clusters[[share.get(g, default) <= 0 for g in groups]]] = np.inf
    if not held.any() and len(sizes) > 1 and np.isfinite(sizes).any():
        held = clusters == sizes.argmin()
    return held.tolist()


def error_places(
    logits: NDArray[np.float32], truth: NDArray[np.bool_], valid: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Where scores err: (row, column, cross-entropy), float32 (n, 3), of squares of 16 pixels with more than 1 nat.

    A pixel counts at most 5 nats, so that one confident wrong label is not all that is seen. logits, truth, valid:
    (H, W).
    """
    side, most = 16, 5.0
    loss = np.minimum(np.logaddexp(0, np.where(truth, -logits, logits)), most) * valid
    rows, cols = (-n % side for n in loss.shape)
    squares = np.pad(loss, ((0, rows), (0, cols)))
    squares = squares.reshape(squares.shape[0] // side, side, -1, side).sum((1, 3))
    r, c = np.nonzero(squares > 1)
    return np.stack([side * (r + 0.5), side * (c + 0.5), squares[r, c]], 1).astype(np.float32)


class Crops:
    """Augmented crops of images held in memory on ``device``.

    Batch ``step`` depends on the seed and the step alone, so that a resumed run sees what the uninterrupted one
    would have seen. ``weights`` maps a set's name to how often it is drawn; nothing is taken from one with weight 0.
    Pixels that do not count are no targets, and marked in the crops. ``errors`` may be given afterwards: for each
    image the :func:`error_places` that ``augment.on_error`` draws from.
    """

    def __init__(
        self,
        images: list[LabelledImage],
        augment: Augment,
        weights: dict[str, float],
        seed: int,
        device: torch.device,
    ) -> None:
        self.augment, self.seed = augment, seed
        self.errors: list[NDArray[np.float32]] = []
        self.images = [torch.from_numpy(image.gray).to(device, torch.float16) for image in images]
        self.truths = [torch.from_numpy(image.targets).to(device) for image in images]
        self.valids = [None if (v := image.counted).all() else torch.from_numpy(v).to(device) for image in images]
        self.centres: list[list[tuple[float, float]]] = []
        self.chips: list[tuple[Tensor, Tensor]] = []
        for image in images:
            truth = image.targets
            parts, count = label(truth, np.ones((3, 3)))
            self.centres.append([(float(r), float(c)) for r, c in center_of_mass(truth, parts, range(1, count + 1))])
            for k, box in enumerate(find_objects(parts) if weights.get(image.sample.group, 1.0) else (), 1):
                self._cut_chip(image.gray, parts == k, box, device)
        of = [image.sample.group for image in images]
        groups = sorted(set(of))
        self.members = [[i for i, group in enumerate(of) if group == g] for g in groups]
        share = np.array([weights.get(g, 1.0) for g in groups], float)
        if not share.any():
            raise InputError(f"the recipe draws nothing: every one of the sets {', '.join(groups)} has weight 0.")
        self.share = share / share.sum()

    def _cut_chip(
        self, image: NDArray[np.float32], target: NDArray[np.bool_], box: tuple[slice, ...], device: torch.device
    ) -> None:
        """Keep a target as its difference to the median around it, for pasting elsewhere."""
        rows, cols = (slice(max(0, s.start - 4), s.stop + 4) for s in box)
        inside, around = target[rows, cols], image[rows, cols]
        if max(inside.shape) > 40 or inside.all():
            return
        difference = (around - np.median(around[~inside])) * inside
        self.chips.append(
            (torch.from_numpy(difference.astype(np.float32)).to(device), torch.from_numpy(inside).to(device))
        )

    def batch(self, step: int, size: int, rank: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """(gray, truth, valid), all float32 (size, 1, crop, crop), the latter two 0 or 1."""
        crops = [self._crop(np.random.default_rng([self.seed, rank, step, i])) for i in range(size)]
        gray, truth, valid = (torch.stack(parts)[:, None] for parts in zip(*crops, strict=True))
        return gray, truth, valid

    def _crop(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        a = self.augment
        members = self.members[rng.choice(len(self.share), p=self.share)]
        i = members[rng.integers(len(members))]
        place = None
        if self.errors and rng.random() < a.on_error:
            i, place = self._error(members, rng) or (i, place)
        image, truth = self.images[i], self.truths[i]
        zoomed = float(np.exp(rng.uniform(*np.log(a.scale)))) if rng.random() < 0.5 else 1.0
        side = min(max(1, round(a.crop / zoomed)), *image.shape)
        r, c = (int(rng.integers(n - side + 1)) for n in image.shape)
        if place is None and self.centres[i] and rng.random() < a.on_target:
            place = self.centres[i][rng.integers(len(self.centres[i]))]
        if place is not None:
            r, c = (
                int(np.clip(round(x + rng.uniform(-0.4, 0.4) * side - side / 2), 0, n - side))
                for x, n in zip(place, image.shape, strict=True)
            )
        x = image[r : r + side, c : c + side].float()
        y = truth[r : r + side, c : c + side].float()
        known = self.valids[i]
        v = torch.ones_like(y) if known is None else known[r : r + side, c : c + side].float()
        if side != a.crop:
            parts = torch.stack([x, y, v])[None]
            x, y, v = F.interpolate(parts, (a.crop, a.crop), mode="bilinear", antialias=True)[0]
            y, v = (y > 0.5).float(), (v > 0.999).float()
        if self.chips and rng.random() < a.paste:
            x, y = self._paste(x.clone(), y.clone(), rng)
        if rng.random() < 0.5:
            x, y, v = x.T, y.T, v.T
        flips = [d for d in (0, 1) if rng.random() < 0.5]
        if flips:
            x, y, v = x.flip(flips), y.flip(flips), v.flip(flips)
        if rng.random() < 0.5:
            gain, shift = 1 + rng.uniform(-a.contrast, a.contrast), rng.uniform(-a.brightness, a.brightness)
            x = ((x - x.mean()) * gain + x.mean() + shift).clamp(*ends(x))
        if rng.random() < 0.25:
            x = self._noisy(x, rng)
        return x, y * v, v

    def _error(self, members: list[int], rng: np.random.Generator) -> tuple[int, tuple[float, float]] | None:
        """The image and the centre of an error in one of ``members``, None where there is none."""
        total = np.array([self.errors[i][:, 2].sum() for i in members], float)
        if not total.any():
            return None
        i = members[rng.choice(len(members), p=total / total.sum())]
        loss = self.errors[i][:, 2].astype(float)
        row, col, _ = self.errors[i][rng.choice(len(loss), p=loss / loss.sum())]
        return i, (float(row), float(col))

    def _paste(self, x: Tensor, y: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        low, high = ends(x)
        for _ in range(int(rng.integers(1, 3))):
            chip, inside = self.chips[rng.integers(len(self.chips))]
            h, w = chip.shape
            if max(h, w) > x.shape[0]:
                continue
            r, c = int(rng.integers(x.shape[0] - h + 1)), int(rng.integers(x.shape[1] - w + 1))
            if y[r : r + h, c : c + w].any():
                continue
            x[r : r + h, c : c + w] = (x[r : r + h, c : c + w] + chip * rng.uniform(0.7, 1.2)).clamp(low, high)
            y[r : r + h, c : c + w] = inside.float()
        return x, y

    def _noisy(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        draw = torch.Generator(x.device).manual_seed(int(rng.integers(2**31)))
        normal = torch.randn(x.shape, generator=draw, device=x.device)
        x = with_gaussian(x, rng.uniform(0, self.augment.gauss), normal)
        if rng.random() < 0.3:
            u = torch.rand(x.shape, generator=draw, device=x.device)
            x = with_salt_pepper(x, rng.uniform(0, self.augment.salt), u)
        return x
