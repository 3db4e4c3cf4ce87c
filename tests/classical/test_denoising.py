"""Classical denoisers of hyperspectral images: what every one must do, and what makes each of them what it is."""

import numpy as np
import pytest

from rsunfold.classical import fasthyde
from rsunfold.classical.fasthyde import BLOCK, FastHyDe, non_local_means, wiener
from rsunfold.classical.lrtdtv import BETA, LAM, LRTDTV, TAU, W, decompose
from rsunfold.cube import Window
from rsunfold.registry import all_models
from rsunfold.subspace import Subspace

MODELS = {spec.name: spec for spec in all_models("denoise-hsi", "classical")}
LOCAL = {name: spec for name, spec in MODELS.items() if spec.build().radius is not None}
ROBUST = {name: spec for name, spec in MODELS.items() if spec.build().outliers}
BANDS, RANK, SIDE = 40, 3, 40


def subspace(basis, rank):
    """Of an image that is whitened already; ``basis`` (bands, k or more) holds the signal."""
    bands = len(basis)
    full = np.linalg.qr(np.column_stack([basis, np.random.default_rng(0).standard_normal((bands, bands))]))[0]
    one = np.ones(bands)
    return Subspace(mean=0 * one, sigma=one, basis=full, rank=rank, A=full[:, : max(9, rank)])


def spectra(bands=BANDS, rank=RANK):
    position = (np.arange(bands) + 0.5) / bands
    return np.linalg.qr(np.cos(np.pi * position[:, None] * np.arange(1, rank + 1)))[0]


def scene(rows=SIDE, cols=SIDE, bands=BANDS, rank=RANK, level=25.0):
    """(bands, rows, cols) : rectangles with sharp edges in a low-rank subspace, large against unit noise; centred."""
    row, col = np.mgrid[:rows, :cols]
    parts = [np.sign(np.sin(0.3 * row + k) * np.sin((0.15 + 0.05 * k) * col + 2 * k)) for k in range(rank)]
    cube = level * np.tensordot(spectra(bands, rank), parts, axes=1)
    return (cube - cube.mean(axis=(1, 2), keepdims=True)).astype(np.float32)


def noise(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def outliers(cube, seed=0):
    """``cube`` with stripes in bands 3, 4 and 5 and impulses in bands 20 and 21, and where they are."""
    rng, out = np.random.default_rng(seed), cube.copy()
    where = np.zeros(cube.shape, dtype=bool)
    for band in (3, 4, 5):
        where[band, :, rng.permutation(cube.shape[2])[:5]] = True
    for band in (20, 21):
        where[band] = rng.random(cube.shape[1:]) < 0.15
    out[where] += rng.choice([-25, 25], where.sum())
    return out, where


def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


def test_the_baselines_are_registered():
    assert {"fasthyde", "lrtdtv"} <= set(MODELS)


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
class TestEveryModel:
    @pytest.mark.parametrize("bands", [1, 3, 12])
    @pytest.mark.parametrize("size", [(1, 1), (1, 30), (23, 1), (2, 3), (17, 9)])
    def test_any_size(self, spec, bands, size):
        rank = min(2, bands)
        restored = spec.build().denoise(noise((bands, *size)), subspace(np.eye(bands)[:, :rank], rank))
        assert restored.shape == (bands, *size)
        assert restored.dtype == np.float32
        assert np.isfinite(restored).all()

    def test_nothing_stays_nothing(self, spec):
        assert not spec.build().denoise(np.zeros((5, 8, 8), np.float32), subspace(np.eye(5)[:, :2], 2)).any()

    def test_the_input_is_left_alone(self, spec):
        y = noise((6, 12, 12))
        kept = y.copy()
        spec.build().denoise(y, subspace(np.eye(6)[:, :2], 2))
        np.testing.assert_array_equal(y, kept)

    def test_the_same_input_gives_the_same_result(self, spec):
        y, s = scene() + noise((BANDS, SIDE, SIDE)), subspace(spectra(), RANK)
        np.testing.assert_array_equal(spec.build().denoise(y, s), spec.build().denoise(y, s))

    @pytest.mark.parametrize("rank", [1, 8])
    def test_of_pure_noise_next_to_nothing_is_left(self, spec, rank):
        y = noise((BANDS, 48, 48))
        s = subspace(spectra(rank=rank), rank)
        projected = np.tensordot(s.basis[:, :rank] @ s.basis[:, :rank].T, y, axes=1)
        assert rms(spec.build().denoise(y, s)) < 0.4 * rms(projected)

    @pytest.mark.parametrize("level", [3, 25, 300])
    def test_it_beats_plain_projection(self, spec, level):
        clean = scene(level=level)
        y, s = clean + noise(clean.shape), subspace(spectra(), RANK)
        A = s.basis[:, :RANK]
        projected = np.tensordot(A @ A.T, y, axes=1)
        gain = 20 * np.log10(rms(projected - clean) / rms(spec.build().denoise(y, s) - clean))
        assert gain > 2

    def test_directions_of_no_signal_lose_their_noise(self, spec):
        clean = scene()
        s = subspace(spectra(), RANK)
        restored = spec.build().denoise(clean + noise(clean.shape), s)
        assert rms(np.tensordot(s.basis[:, RANK:].T, restored, axes=1)) < 0.1

    def test_the_record_is_complete(self, spec, declared):
        model = spec.build()
        declared(spec, "url", bands=(1, None))
        assert isinstance(model.outliers, bool)
        assert model.radius is None or model.radius > 0
        assert model.bytes_per_pixel(200, 10) > model.bytes_per_pixel(100, 10) > 100 * 4

    def test_no_more_memory_for_further_pixels_than_declared(self, spec, peak):
        """Strips that do not grow with the image are not counted."""
        model, s = spec.build(), subspace(spectra(12), RANK)
        few, many = (scene(64, cols, bands=12) for cols in (64, 128))
        model.denoise(few[:, :20], s)  # imports what it needs
        further = peak(lambda: model.denoise(many, s)) - peak(lambda: model.denoise(few, s))
        assert further <= model.bytes_per_pixel(12, RANK) * 64 * 64


@pytest.mark.parametrize("spec", LOCAL.values(), ids=LOCAL)
class TestWindows:
    @pytest.mark.parametrize(
        "tile", [Window(0, 0, 20, 20), Window(17, 21, 13, 15), Window(40, 33, 20, 25)], ids=["corner", "middle", "end"]
    )
    def test_a_tile_with_a_margin_of_the_radius_equals_the_whole(self, spec, tile):
        y = scene(60, 58, bands=8) + noise((8, 60, 58))
        model, s = spec.build(), subspace(spectra(8), RANK)
        outer = tile.grown(model.radius, 60, 58)
        part = model.denoise(np.ascontiguousarray(y[:, *outer.slices]), s)[:, *tile.within(outer)]
        np.testing.assert_allclose(part, model.denoise(y, s)[:, *tile.slices], atol=1e-4)

    def test_pixels_beyond_the_radius_do_not_matter(self, spec):
        model, s = spec.build(), subspace(np.eye(2), 2)
        y = noise((2, 61, 61))
        changed = y.copy()
        changed[:, 30, 30] += 3
        _, row, col = np.nonzero(abs(model.denoise(changed, s) - model.denoise(y, s)) > 1e-4)
        assert max(abs(row - 30).max(), abs(col - 30).max()) <= model.radius


@pytest.mark.parametrize("spec", ROBUST.values(), ids=ROBUST)
def test_outliers_go_that_fasthyde_leaves(spec):
    clean = scene()
    y, where = outliers(clean + noise(clean.shape))
    s = subspace(spectra(), RANK)
    left, of_fasthyde = (rms((model.denoise(y, s) - clean)[where]) for model in (spec.build(), FastHyDe()))
    assert left < 0.5 * of_fasthyde


class TestFastHyDe:
    def test_a_strong_clean_signal_stays(self):
        """Far above the noise that the denoiser expects, nothing looks like noise."""
        clean = scene(level=100.0)
        assert rms(FastHyDe().denoise(clean, subspace(spectra(), RANK)) - clean) < 0.05

    def test_each_eigen_image_is_denoised_on_its_own(self):
        A = spectra()
        Z = np.stack([np.tensordot(a, scene(), axes=1) for a in A.T]) + noise((RANK, SIDE, SIDE))
        restored = FastHyDe().denoise(np.tensordot(A, Z, axes=1).astype(np.float32), subspace(A, RANK))
        for z, a in zip(Z, A.T, strict=True):
            z = z.astype(np.float32)
            expected = wiener(z, non_local_means(z))
            np.testing.assert_allclose(np.tensordot(a, restored, axes=1), expected, atol=1e-2)

    @pytest.mark.parametrize(("row", "col"), [(12, 14), (15, 11), (13, 17)])
    def test_non_local_means_are_those_of_their_definition(self, row, col):
        z = (scene(30, 30, level=20.0)[0] + noise((30, 30))).astype(np.float32)
        reach = fasthyde.DISTANCE

        def patch(r, c):
            return z[r - 1 : r + 3, c - 1 : c + 3].astype(float)

        places = [(row + i, col + j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)]
        d = np.array([((patch(*place) - patch(row, col)) ** 2).mean() for place in places])
        exponent = np.maximum(d - 2, 0) / (1.25 * fasthyde.H) ** 2
        weight = np.where(exponent <= 5, np.exp(-exponent), 0)
        expected = np.average([z[place] for place in places], weights=weight)
        assert non_local_means(z)[row, col] == pytest.approx(expected, abs=1e-2)  # its exponentials are approximate

    def test_the_wiener_filter_is_that_of_its_definition(self):
        from scipy.fft import dctn, idctn

        z, pilot = noise((11, 13)), 3 * noise((11, 13), seed=1)
        pad = BLOCK - 1
        padded, padded_pilot = (np.pad(x.astype(np.float64), pad, mode="symmetric") for x in (z, pilot))
        total, weights = np.zeros_like(padded), np.zeros_like(padded)
        for row in range(11 + pad):
            for col in range(13 + pad):
                block = np.s_[row : row + BLOCK, col : col + BLOCK]
                p = dctn(padded_pilot[block], norm="ortho")
                gain = p**2 / (p**2 + 1)
                weight = 1 / (1 + (gain**2).sum())
                total[block] += weight * idctn(gain * dctn(padded[block], norm="ortho"), norm="ortho")
                weights[block] += weight
        expected = (total / weights)[pad:-pad, pad:-pad]
        np.testing.assert_allclose(wiener(z, pilot), expected, atol=1e-5)

    @pytest.mark.parametrize("shape", [(70, 300), (5, 2000), (1, 1)])
    def test_strips_do_not_show(self, shape):
        """The filter with power everywhere is the identity, however many strips it takes."""
        z = noise(shape)
        np.testing.assert_allclose(wiener(z, np.full(shape, 1e6, np.float32) * noise(shape, 1)), z, atol=1e-3)


class TestLRTDTV:
    def test_a_rank_ten_times_too_large_does_little_harm(self):
        """Outliers pretend to signal: here the subspace ends with the very bands that have them."""
        clean = scene()
        y, where = outliers(clean + noise(clean.shape))
        misled = subspace(np.column_stack([spectra(), np.eye(BANDS)[:, [3, 4, 5, 20, 21]]]), 30)
        found = decompose(y, misled.basis, misled.rank)
        assert found.U[2].shape[1] == RANK
        assert rms((found.X - clean)[where]) < 1
        assert rms(found.X - clean) < 1.2 * rms(LRTDTV().denoise(y, subspace(spectra(), RANK)) - clean)

    def test_the_rank_grows_to_that_of_the_image(self):
        rank = 7
        clean = scene(rank=rank, level=40)
        found = decompose(clean + noise(clean.shape), spectra(rank=rank), rank)
        assert found.U[2].shape[1] == rank

    def test_the_outliers_are_in_S(self):
        clean = scene()
        y, where = outliers(clean + noise(clean.shape))
        S = decompose(y, spectra(), RANK).S
        assert abs(S[where]).mean() > 15
        assert abs(S[~where]).mean() < 1

    def found(self):
        clean = scene()
        y, _ = outliers(clean + noise(clean.shape))
        return clean, y, decompose(y, spectra(), RANK)

    def test_the_parts_add_up_and_the_residuals_vanish(self):
        _, y, found = self.found()
        assert rms(y - found.X - found.S - found.N) < 1e-3 * rms(y)
        first, last = np.array(found.residuals[:10]), np.array(found.residuals[-1])
        assert (last < 0.02 * first.max(axis=0)).all()
        assert (last < 1e-3).all()

    def test_X_has_a_tucker_decomposition_with_orthonormal_bases(self):
        _, _, found = self.found()
        U1, U2, U3 = found.U
        assert U1.shape == U2.shape == (SIDE, 32)
        for U in found.U:
            np.testing.assert_allclose(U.T @ U, np.eye(U.shape[1]), atol=1e-5)
        X = np.einsum("bij,ik,kl,jm,mn->bln", found.X, U1, U1.T, U2, U2.T, optimize=True)
        np.testing.assert_allclose(np.tensordot(U3 @ U3.T, X, axes=1), found.X, atol=1e-3)

    def test_the_objective_is_below_that_of_the_truth(self):
        """And of the projection: both could be returned, S taking what is above the threshold."""
        clean, y, found = self.found()

        def objective(X):
            tv = sum(w * abs(np.roll(X, -1, axis) - X).sum() for axis, w in enumerate(W))
            rest = y - X
            S = rest - np.clip(rest, -LAM / (2 * BETA), LAM / (2 * BETA))
            return TAU / np.sqrt(BANDS) * tv + LAM * abs(S).sum() + BETA * ((rest - S) ** 2).sum()

        projected = np.tensordot(spectra() @ spectra().T, y, axes=1)
        assert objective(found.X) < 1.001 * objective(clean)
        assert objective(found.X) < objective(projected)
        assert objective(found.X) < objective(0 * y)

    def test_S_and_N_are_a_robust_loss(self):
        """Between X and Y - S lie lam / (2 beta) at most."""
        _, y, found = self.found()
        assert abs(y - found.S - found.X).max() < 1.05 * LAM / (2 * BETA)
