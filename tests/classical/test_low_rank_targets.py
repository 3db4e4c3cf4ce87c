"""IPI and PSTNN: solutions of the problems that they state, by the conditions of their optimum and by plain solvers."""

import itertools
import math

import numpy as np
import pytest

from rsunfold.classical import pstnn
from rsunfold.classical.ipi import GROWTH, IPI, Patches
from rsunfold.classical.pstnn import PSTNN, free_values, local_structure, separate, shrink_tensor
from rsunfold.classical.rpca import outlier_pursuit, shrink_entries
from rsunfold.simulate.infrared import infrared_scene


def low_rank_and_sparse(rows=40, cols=90, rank=3, share=0.05, seed=0):
    rng = np.random.default_rng(seed)
    B = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, cols)) / rank
    T = np.where(rng.random((rows, cols)) < share, rng.uniform(0.5, 2, (rows, cols)), 0)
    return B.astype(np.float32), T.astype(np.float32)


def plain_rpca(D, lam, penalty=1.0, iterations=5000):
    """ADMM with a constant penalty and full SVDs, which converges to the optimum."""
    D = D.astype(np.float64)
    T, Y = np.zeros_like(D), np.zeros_like(D)
    for _ in range(iterations):
        U, s, V = np.linalg.svd(D - T + Y / penalty, full_matrices=False)
        B = (U * np.maximum(s - 1 / penalty, 0)) @ V
        A = D - B + Y / penalty
        T = np.sign(A) * np.maximum(np.abs(A) - lam / penalty, 0)
        Y += penalty * (D - B - T)
    return B, T


def slices(size, side, step):
    starts = sorted({*range(0, size - side + 1, step), size - side})
    return [slice(a, a + side) for a in starts]


def scene(rows=100, cols=90, seed=0):
    """A background that repeats itself, three spots, and noise of half a gray level."""
    row, col = np.mgrid[:rows, :cols]
    image = 0.4 + 0.1 * np.sin(row / 9) + 0.1 * np.cos(col / 7)
    places = ((20, 30), (61, 70), (75, 22))
    for r, c in places:
        image = image + 0.3 * np.exp(-((row - r) ** 2 + (col - c) ** 2) / 2)
    return (image + np.random.default_rng(seed).normal(0, 0.002, image.shape)).astype(np.float32), places


class TestPatches:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (4, 9), (10, 10), (23, 17), (40, 11)])
    @pytest.mark.parametrize("grid", [(10, 3), (10, 10), (7, 1)])
    def test_every_pixel_comes_back(self, shape, grid):
        image = np.random.default_rng(0).random(shape, dtype=np.float32)
        patches = Patches(shape, *grid)
        values = patches.cut(image)
        assert len(values) == math.prod(len(slices(n, min(grid[0], n), grid[1])) for n in shape)
        np.testing.assert_array_equal(patches.median(values), image)
        np.testing.assert_allclose(patches.mean(values), image, rtol=1e-6)

    def test_median_and_mean_are_those_of_the_patches_that_hold_the_pixel(self):
        patches = Patches((23, 17), 8, 3)
        values = np.random.default_rng(0).normal(size=patches.cut(np.zeros((23, 17), np.float32)).shape)
        values = values.astype(np.float32)
        found = {at: [] for at in np.ndindex(23, 17)}
        places = itertools.product(slices(23, 8, 3), slices(17, 8, 3))
        for patch, (down, across) in zip(values, places, strict=True):
            for r, c in np.ndindex(8, 8):
                found[down.start + r, across.start + c].append(patch[8 * r + c])
        middle, mean = patches.median(values), patches.mean(values)
        for at, some in found.items():
            assert middle[at] == pytest.approx(np.median(some), abs=1e-6)
            assert mean[at] == pytest.approx(np.mean(some), abs=1e-6)


class TestIPI:
    def test_a_low_rank_and_sparse_matrix_is_taken_apart_exactly(self):
        B, T = low_rank_and_sparse()
        found = outlier_pursuit(B + T, 1 / math.sqrt(90), shrink_entries, GROWTH)
        np.testing.assert_allclose(found.S, T, atol=2e-4)
        np.testing.assert_allclose(found.L, B, atol=2e-4)

    @pytest.mark.parametrize("lam", [0.06, 0.1, 0.2])
    def test_the_multipliers_prove_the_optimum(self, lam):
        """|Y|_2 <= 1 and |Y| <= lam bound the minimum from below by <Y, D>: the gap is all that is left to gain.

        The slower the penalty grows, the smaller the gap.
        """
        B, T = low_rank_and_sparse(seed=1)
        D = B + T + np.random.default_rng(2).normal(0, 0.1, B.shape).astype(np.float32)
        for growth, most in ((GROWTH, 0.03), (1.1, 0.006)):
            found = outlier_pursuit(D, lam, shrink_entries, growth)
            Y = found.Y.astype(np.float64)
            Y /= max(1, np.linalg.norm(Y, 2), np.abs(Y).max() / lam)
            value = np.linalg.norm(found.L.astype(np.float64), "nuc") + lam * np.abs(found.S).sum()
            assert 0 <= value - (Y * D).sum() < most * value
            np.testing.assert_allclose(found.L + found.S, D, atol=1e-4)
            best = plain_rpca(D, lam, penalty=3, iterations=1500)
            assert value == pytest.approx(np.linalg.norm(best[0], "nuc") + lam * np.abs(best[1]).sum(), rel=1e-3)

    def test_it_is_what_a_plain_solver_gives(self):
        image, _ = scene(40, 35)
        model = IPI(patch=12, step=5)
        grid = list(itertools.product(slices(40, 12, 5), slices(35, 12, 5)))
        D = np.stack([image[at].ravel() for at in grid], axis=1)
        _, T = plain_rpca(D, 1 / math.sqrt(40), penalty=10, iterations=2000)
        stack = np.full((len(grid), *image.shape), np.nan)
        for k, at in enumerate(grid):
            stack[k][at] = T[:, k].reshape(12, 12)
        expected = np.maximum(np.nanmedian(stack, axis=0), 0)
        assert expected.max() > 0.1
        np.testing.assert_allclose(model.score(image), expected, atol=3e-3)

    def test_spots_on_a_background_that_repeats_itself(self):
        image, places = scene()
        score = IPI().score(image)
        for r, c in places:
            assert score[r, c] == pytest.approx(0.3, abs=0.1)
            image[r - 4 : r + 5, c - 4 : c + 5] = np.nan
        assert score[~np.isnan(image)].max() < 0.02

    def test_lam_decides_how_much_is_target(self):
        image, _ = scene()
        fewer, more = (np.count_nonzero(IPI(lam=lam).score(image) > 0.01) for lam in (2.0, 0.5))
        assert fewer < more


def plain_slices(A, limit, free):
    """The prox by a full SVD of every slice."""
    F = np.fft.fft(A, axis=0)
    for k in range(len(F)):
        U, s, V = np.linalg.svd(F[k], full_matrices=False)
        s[free:] = np.maximum(s[free:] - limit, 0)
        F[k] = (U * s) @ V
    return np.fft.ifft(F, axis=0).real


def partial_sum(A, free):
    s = np.linalg.svd(np.fft.fft(A, axis=0), compute_uv=False)
    return s[:, free:].sum() / len(A)


class TestPSTNN:
    @pytest.mark.parametrize("shape", [(6, 5, 5), (7, 4, 6), (5, 6, 3), (1, 4, 4), (2, 1, 5), (4, 3, 1)])
    @pytest.mark.parametrize("free", [0, 1, 2, 9])
    def test_the_proximal_operator_by_full_decompositions(self, shape, free):
        A = np.random.default_rng(0).normal(size=shape)
        np.testing.assert_allclose(shrink_tensor(A, 1.5, free), plain_slices(A, 1.5, free), atol=1e-9)

    def test_nothing_has_a_smaller_value_than_the_proximal_operator(self):
        rng = np.random.default_rng(1)
        A, limit, free = rng.normal(size=(5, 4, 4)), 1.0, 1

        def value(B):
            return limit * partial_sum(B, free) + ((B - A) ** 2).sum() / 2

        best = shrink_tensor(A, limit, free)
        others = [A, np.zeros_like(A), *(plain_slices(A, t, k) for t in (0.5, 0.9, 1.1, 2) for k in range(4))]
        others += [best + size * rng.normal(size=A.shape) for size in (1e-3, 1e-2, 0.1, 1) for _ in range(50)]
        assert value(best) < min(map(value, others))

    def test_free_values_are_those_of_a_tenth_of_the_largest(self):
        Q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 4)))
        P, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(9, 4)))
        for s, count in (((10, 2, 1.01, 0.5), 3), ((10, 0.9, 0.5, 0.1), 1), ((1, 1, 1, 1), 4)):
            D = ((P * s) @ Q.T).reshape(9, 4, 4).astype(np.float32)
            assert free_values(D) == count == free_values(D.reshape(9, 16).T.reshape(16, 3, 3))

    def test_the_iteration_is_the_one_that_is_described(self, monkeypatch):
        monkeypatch.setattr(pstnn, "ITERATIONS", 6)
        rng = np.random.default_rng(0)
        D = (100 + 20 * rng.normal(size=(7, 8, 8)) + 80 * (rng.random((7, 8, 8)) < 0.1)).astype(np.float32)
        W_LS = rng.random(D.shape, dtype=np.float32)
        W_LS[0] = 0
        lam, mu, free = 1e-3, 2e-3, free_values(D)
        T, Y, W = (np.zeros(D.shape), np.zeros(D.shape), np.ones(D.shape))
        counts = [0]
        with np.errstate(divide="ignore"):
            for _ in range(6):
                B = plain_slices(D - T - Y / mu, 1 / mu, free)
                T = np.maximum(D - B - Y / mu - lam * W / mu, 0)
                counts.append(np.count_nonzero(T))
                W = free / (T + 0.01) / W_LS
                Y += mu * (B + T - D)
                mu *= 1.05
        assert all(a != b for a, b in itertools.pairwise(counts[:-1])) and counts[-1] > 0
        np.testing.assert_allclose(separate(D, W_LS, lam), T, atol=1e-2)
        assert T[1:].any() and not T[0].any()

    def test_the_prior_is_high_at_a_spot_and_nothing_along_an_edge(self):
        image = np.full((40, 50), 100, np.float32)
        image[:, 25:] = 200
        image[20, 10] = 200
        W = local_structure(image)
        assert W.min() == 0 and W.max() == 1 == W[18:23, 8:13].max()
        assert W[:, 20:].max() < 1e-6

    def test_a_spot_that_stands_alone_is_background(self):
        """The limit of the model: a lone spot on a flat image is one singular value, the free one, of each slice."""
        row, col = np.mgrid[:160, :160]
        spot = 0.4 * np.exp(-((row - 70) ** 2 + (col - 65) ** 2) / 4)
        clouds = 0.2 + 0.5 * infrared_scene(160, 160, background="clouds", targets=0, seed=0).image
        assert not PSTNN().score((0.4 + spot).astype(np.float32)).any()
        score = PSTNN().score((clouds + spot).astype(np.float32))
        assert score[70, 65] == score.max() == pytest.approx(0.4, abs=0.1)
        score[65:76, 60:71] = 0
        assert score.max() < 0.1
