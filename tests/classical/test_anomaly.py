"""Classical detectors of hyperspectral anomalies: what every one must do, and what makes each of them what it is."""

from dataclasses import replace

import numpy as np
import pytest

from rsunfold import detect_anomaly
from rsunfold.classical import lrasr
from rsunfold.classical.crd import CRD
from rsunfold.classical.kernel_rx import KernelRX
from rsunfold.classical.local_rx import LocalRX
from rsunfold.classical.lrasr import LRASR, dictionary, represent
from rsunfold.classical.rpca import RPCA, norms, outlier_pursuit, shrink_columns, shrink_singular
from rsunfold.classical.rx import GlobalRX
from rsunfold.cube import Window
from rsunfold.errors import UsageError
from rsunfold.registry import all_models
from rsunfold.scene import scene_of

MODELS = {spec.name: spec for spec in all_models("detect-anomaly", "classical")}
LOCAL = {name: spec for name, spec in MODELS.items() if spec.build().radius is not None}


def background(bands=12, rows=30, cols=34, seed=0):
    """(bands, rows, cols) in [0, 1] : smooth mixtures of three spectra, and noise."""
    rng = np.random.default_rng(seed)
    position = np.linspace(0, 1, bands)[:, None]
    spectra = 0.5 + 0.3 * np.sin(2 * np.pi * (position + np.array([0, 0.3, 0.6])))
    row, col = np.mgrid[:rows, :cols]
    shares = np.stack([1.2 + np.sin(0.2 * row + 0.1 * k * col + k) for k in range(3)])
    cube = np.tensordot(spectra, shares / shares.sum(axis=0), axes=1)
    return np.clip(cube + rng.normal(0, 0.01, cube.shape), 0, 1).astype(np.float32)


def build(spec):
    """With few parts where the method has sizes: what is tested here does not depend on them."""
    return spec.build(**spec.sizes.get("tiny", {}))


def everywhere(cube):
    return np.ones(cube.shape[1:], dtype=bool)


def score(model, cube, valid=None, seed=0):
    valid = everywhere(cube) if valid is None else valid
    return model.fit(scene_of(cube, valid, seed=seed))(cube, valid)


def close(expected):
    """Tolerances for what differs by rounding alone."""
    return {"rtol": 1e-4, "atol": 1e-5 * float(np.median(expected))}


def test_the_baselines_are_registered():
    assert {"rx", "local-rx", "kernel-rx", "crd", "lrasr", "rpca"} <= set(MODELS)


def _inside(model, bands, rows, cols) -> np.ndarray:
    """Pixels whose inner window holds the whole image."""
    r = model.inner // 2
    near = [(np.arange(n) <= r) & (np.arange(n) >= n - 1 - r) for n in (rows, cols)]
    return np.logical_and.outer(*near)


def _too_few(model, bands, rows, cols) -> np.ndarray:
    """All, where the pixels span as many dimensions as so many can."""
    return np.full((rows, cols), rows * cols <= bands + 1)


ALONE = {"crd": _inside, "rx": _too_few}
"""By model the pixels of an image that have no score."""


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
class TestEveryModel:
    @pytest.mark.parametrize("bands", [1, 5, 200])
    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 40), (9, 8)])
    def test_any_size(self, spec, bands, size):
        found = score(build(spec), background(bands, *size))
        assert found.shape == size
        assert found.dtype == np.float32
        alone = np.isnan(found)
        expected = ALONE.get(spec.name, lambda *_: np.zeros(size, bool))
        np.testing.assert_array_equal(alone, expected(build(spec), bands, *size))
        assert (found[~alone] >= 0).all() and np.isfinite(found[~alone]).all()

    def test_a_long_strip(self, spec):
        assert np.isfinite(score(build(spec), background(4, 3, 200))).all()

    @pytest.mark.parametrize("level", [0.0, 0.1, 1.0])
    def test_a_constant_scene_scores_zero(self, spec, level):
        cube = np.full((5, 9, 11), level, np.float32) * np.linspace(0.3, 1, 5, dtype=np.float32)[:, None, None]
        assert not np.nan_to_num(score(build(spec), cube)).any()

    def test_constant_and_duplicate_bands(self, spec):
        cube = background(6)
        cube = np.concatenate([cube, cube[:2], np.full((2, *cube.shape[1:]), 0.4, np.float32)])
        found = score(build(spec), cube)
        assert np.isfinite(found).all()
        assert found.std() > 0

    def test_pixels_that_are_not_valid_do_not_matter(self, spec):
        cube = background()
        valid = everywhere(cube)
        valid[10:16, 5:21] = False
        valid[0, 0] = False
        changed = np.where(valid, cube, 1 - 0.9 * np.roll(cube, 3, axis=0)).astype(np.float32)
        before, after = score(build(spec), cube, valid), score(build(spec), changed, valid)
        assert np.isfinite(after).all()
        np.testing.assert_allclose(after[valid], before[valid], **close(before[valid]))

    def test_the_same_seed_gives_the_same_scores_and_the_input_is_left_alone(self, spec):
        cube = background()
        kept = cube.copy()
        first = score(build(spec), cube, seed=3)
        np.testing.assert_array_equal(first, score(build(spec), cube, seed=3))
        np.testing.assert_array_equal(cube, kept)

    def test_an_obvious_anomaly_scores_highest(self, spec):
        cube = background()
        cube[:, 12, 20] = np.linspace(0.9, 0.1, len(cube)) ** 2
        found = score(build(spec), cube)
        assert np.unravel_index(found.argmax(), found.shape) == (12, 20)

    def test_the_record_is_complete(self, spec, declared):
        model = build(spec)
        declared(spec, "url", bands=(1, None))
        assert model.radius is None or model.radius >= 0
        assert model.bytes_per_pixel(200) >= model.bytes_per_pixel(100) > 0

    def test_no_more_memory_for_further_pixels_than_declared(self, spec, peak):
        """What does not grow with the image, such as blocks and landmarks, is not counted."""
        model = build(spec)

        def needed(cols):
            cube = background(12, 8, cols)
            seen, valid = scene_of(cube), everywhere(cube)
            return peak(lambda: model.fit(seen)(cube, valid))

        needed(20)  # imports what it needs
        cols = 1024 if model.radius == 0 else 64  # of single pixels thousands are taken at a time
        # NumPy makes a few temporary arrays more where they are small.
        assert needed(2 * cols) - needed(cols) <= 1.25 * model.bytes_per_pixel(12) * 8 * cols


@pytest.mark.parametrize("spec", LOCAL.values(), ids=LOCAL)
class TestWindows:
    @pytest.mark.parametrize(
        "tile", [Window(0, 0, 12, 14), Window(13, 21, 9, 17), Window(28, 60, 12, 20)], ids=["corner", "middle", "end"]
    )
    def test_a_window_with_a_margin_of_the_radius_equals_the_whole(self, spec, tile):
        cube = background(6, 40, 80)
        valid = everywhere(cube)
        valid[14:18, 20:30] = False
        model = build(spec)
        scorer = model.fit(scene_of(cube, valid))
        outer = tile.grown(model.radius, 40, 80)
        part = scorer(np.ascontiguousarray(cube[:, *outer.slices]), valid[outer.slices])[tile.within(outer)]
        inside = valid[tile.slices]
        expected = scorer(cube, valid)[tile.slices][inside]
        np.testing.assert_allclose(part[inside], expected, **close(expected))

    def test_pixels_beyond_the_radius_do_not_matter(self, spec):
        cube, model = background(4, 41, 41), build(spec)
        scorer = model.fit(scene_of(cube))
        changed = cube.copy()
        changed[:, 20, 20] += 0.2
        before, after = scorer(cube, everywhere(cube)), scorer(changed, everywhere(cube))
        row, col = np.nonzero(~np.isclose(after, before, **close(before)))
        assert len(row)
        assert max(abs(row - 20).max(), abs(col - 20).max()) <= model.radius


class TestGlobalRX:
    def test_it_is_the_mahalanobis_distance(self):
        cube = background()
        x = cube.reshape(len(cube), -1).astype(np.float64)
        d = x - x.mean(axis=1, keepdims=True)
        expected = np.sum(d * np.linalg.solve(np.cov(x), d), axis=0)
        np.testing.assert_allclose(score(GlobalRX(), cube).ravel(), expected, rtol=1e-6)

    def test_it_equals_spectral_on_a_real_scene(self, shared):
        spectral = pytest.importorskip("spectral")
        from scipy.io import loadmat

        x = loadmat(shared / "data" / "had" / "abu-urban-1.mat")["data"].astype(np.float64)
        x = ((x - x.min()) / (x.max() - x.min())).astype(np.float32)
        found = score(GlobalRX(), np.ascontiguousarray(np.moveaxis(x, -1, 0)))
        np.testing.assert_allclose(found, spectral.rx(x.astype(np.float64)), rtol=1e-6)

    def test_duplicate_bands_change_nothing(self):
        cube = background(6)
        twice = np.concatenate([cube, cube, np.full_like(cube[:1], 0.7)])
        np.testing.assert_allclose(score(GlobalRX(), twice), score(GlobalRX(), cube), rtol=1e-4)

    @pytest.mark.parametrize("factor", [1e-7, 1e7])
    def test_units_of_a_band_do_not_matter(self, factor):
        """Half of the bands as reflectances, half as ten thousandths; or a layer of other units."""
        rng = np.random.default_rng(0)
        cube = (rng.normal(size=(40, 40)) @ rng.random((40, 900)) / 40 + rng.random((40, 900)) / 100).reshape(
            40, 30, 30
        )
        cube = (cube - cube.min(axis=(1, 2), keepdims=True) + 0.1).astype(np.float32)
        scaled = cube.copy()
        scaled[20:] *= np.float32(factor)
        scaled /= scaled.max()
        expected = score(GlobalRX(), cube)
        assert expected.mean() == pytest.approx(40 * 899 / 900, rel=1e-3)
        np.testing.assert_allclose(score(GlobalRX(), scaled), expected, rtol=1e-3)

    @pytest.mark.parametrize("case", ["sum", "other units", "low rank", "low rank above 0", "negative"])
    def test_rounding_is_no_dimension(self, case):
        rng = np.random.default_rng(0)
        B = rng.normal(0.5, 0.1, (8, 40, 50)).astype(np.float32)
        mixed = np.tensordot(rng.normal(size=(24, 8)), rng.normal(size=(8, 40, 50)), 1) / 60
        cube = {
            "sum": np.concatenate([B, B[:1] + B[1:2]]),
            "other units": np.concatenate([B, B[:2] * 1e4 + 3]),
            "low rank": mixed - mixed.min(),
            "low rank above 0": 3000 + 100 * mixed,
            "negative": np.concatenate([-B[:7] / 3, -B[7:] - 0.2, -(B[:1] + B[1:2]) / 6, -B[2:3] / 3]),
        }[case].astype(np.float32)
        assert detect_anomaly(cube, model="rx").score.mean() == pytest.approx(8, rel=0.01)

    def test_components_are_the_leading_ones(self):
        cube = background()
        x = cube.reshape(len(cube), -1).astype(np.float64)
        d = x - x.mean(axis=1, keepdims=True)
        values, vectors = np.linalg.eigh(np.cov(x))
        expected = ((vectors[:, -2:].T @ d) ** 2 / values[-2:, None]).sum(axis=0)
        np.testing.assert_allclose(score(GlobalRX(components=2), cube).ravel(), expected, rtol=1e-5)
        np.testing.assert_array_equal(score(GlobalRX(components=99), cube), score(GlobalRX(), cube))

    @pytest.mark.parametrize(("components", "least"), [(None, 12 + 1), (8, 8 + 1), (99, 12 + 1)])
    def test_pixels_that_all_lie_equally_far_have_no_score(self, components, least):
        """Of n spectra in n - 1 dimensions each has the distance (n - 1)^2 / n: no pixel is an anomaly."""
        cube = np.random.default_rng(0).random((12, 1, least + 1), dtype=np.float32)
        model = GlobalRX(components=components)
        assert np.isnan(score(model, cube[..., :least])).all()
        assert np.ptp(score(model, cube)) > 0.01


class TestLocalRX:
    @pytest.mark.parametrize("bands", [3, 30, 100], ids=["few bands", "more", "more than pixels of a ring"])
    def test_it_equals_its_definition(self, bands):
        cube = background(bands, 12, 75)
        valid = np.random.default_rng(1).random((12, 75)) > 0.1
        inner, outer = 3, 9
        found = score(LocalRX(inner=inner, outer=outer), cube, valid)
        R, hole = outer // 2, outer // 2 - inner // 2
        padded = np.pad(cube.astype(np.float64), ((0, 0), (R, R), (R, R)), mode="symmetric")
        inside = np.pad(valid, R, mode="symmetric")
        for row, col in np.argwhere(valid)[::7]:
            ring = inside[row : row + outer, col : col + outer].copy()
            ring[hole : hole + inner, hole : hole + inner] = False
            x = padded[:, row : row + outer, col : col + outer][:, ring]
            C = np.cov(x)
            C += 1e-3 * np.trace(C) / bands * np.eye(bands)
            d = cube[:, row, col] - x.mean(axis=1)
            assert found[row, col] == pytest.approx(d @ np.linalg.solve(C, d), rel=1e-4)

    def test_a_ring_of_few_pixels_needs_no_matrix_of_bands(self, peak):
        """Of 16 pixels, with 800 bands: its inverse takes minutes for an image of a thousand bands and pixels."""
        cube = background(800, 3, 4)
        scorer, valid = LocalRX(inner=3, outer=5).fit(scene_of(cube)), everywhere(cube)
        scorer(cube, valid)  # imports what it needs
        assert peak(lambda: scorer(cube, valid)) < 800**2 * 8

    @pytest.mark.parametrize("bands", [3, 30], ids=["fewer bands than pixels of a ring", "more"])
    def test_a_ring_of_equal_pixels_still_tells_what_is_different(self, bands):
        cube = np.full((bands, 40, 40), 0.5, np.float32)
        cube[:, 20, 20], cube[:, 0, 0] = 0.6, 1
        found = score(LocalRX(inner=3, outer=5), cube)
        assert np.isfinite(found).all()
        assert found[20, 20] > 100 * np.median(found)


class TestKernelRX:
    def test_it_is_kernel_rx_when_every_pixel_is_a_landmark(self):
        """Without approximation phi(x) has coordinates K^-1/2 k_x, and nothing lies outside their span."""
        from scipy.spatial.distance import cdist, pdist

        from rsunfold.classical.kernel_rx import RIDGE

        cube = background(5, 6, 8)
        x = cube.reshape(5, -1).astype(np.float64)
        values, vectors = np.linalg.eigh(np.cov(x, bias=True))
        z = ((vectors / values**0.25).T @ (x - x.mean(axis=1, keepdims=True))).T
        K = np.exp(-(cdist(z, z) ** 2) / (2 * np.median(pdist(z)) ** 2))
        n = len(K)
        H = np.eye(n) - 1 / n
        centred = H @ K @ H
        lam = RIDGE * np.trace(centred) / n
        # phi' (Phi Phi'/n + lam I)^-1 phi for the columns phi of Phi, by their matrix of products.
        expected = np.diag(np.linalg.solve(centred / n + lam * np.eye(n), centred))
        np.testing.assert_allclose(score(KernelRX(), cube).ravel(), expected, rtol=1e-4)

    def test_the_width_is_that_of_the_whole_image(self):
        """The upper half is calm; its distances alone are 30 times smaller."""
        rng = np.random.default_rng(0)
        cube = np.float32(0.5) + rng.normal(0, 0.05, (5, 80, 50)).astype(np.float32)
        cube[:, :40] = 0.5 + rng.normal(0, 0.001, (5, 40, 50))
        scene = scene_of(cube)
        widths = [1 / np.linalg.norm(KernelRX(landmarks=n, components=5).fit(scene).P[0]) for n in (500, 2000)]
        assert widths[1] == pytest.approx(widths[0], rel=0.1)

    def test_what_is_like_no_landmark_scores_highest(self):
        cube = background(8)
        scorer = KernelRX(landmarks=50).fit(scene_of(cube))
        strange = cube.copy()
        strange[:, 4, 4] = 1 - strange[:, 4, 4] ** 2
        found = scorer(strange, everywhere(cube))
        assert found[4, 4] > 5 * np.sort(found.ravel())[-2]

    def test_the_seed_draws_the_landmarks(self):
        cube = background()
        first, second = (score(KernelRX(landmarks=20), cube, seed=seed) for seed in (0, 1))
        assert not np.array_equal(first, second)


class TestCRD:
    @pytest.mark.parametrize("bands", [6, 60], ids=["fewer bands than neighbours", "more"])
    @pytest.mark.parametrize(("offset", "lam"), [(0, 1e-3), (100, 1e-6)])
    def test_it_equals_its_definition(self, bands, offset, lam):
        """As a least-squares problem, which needs no product N N'."""
        cube = background(bands, 14, 19) + np.float32(offset)
        valid = np.random.default_rng(1).random((14, 19)) > 0.1
        inner, outer = 3, 7
        found = score(CRD(inner=inner, outer=outer, lam=lam), cube, valid)
        for row, col in np.argwhere(valid)[::5]:
            rows, cols = np.abs(np.arange(14) - row), np.abs(np.arange(19) - col)
            far = np.maximum(rows[:, None], cols)
            N = cube[:, (far <= outer // 2) & (far > inner // 2) & valid].astype(np.float64)
            y = cube[:, row, col].astype(np.float64)
            G = np.sum((N - y[:, None]) ** 2, axis=0)
            a = np.linalg.lstsq(np.vstack([N, np.diag(np.sqrt(lam * G))]), np.concatenate([y, 0 * G]), rcond=None)[0]
            assert found[row, col] == pytest.approx(np.linalg.norm(y - N @ a), rel=1e-4)

    @pytest.mark.parametrize("bands", [6, 60])
    def test_what_equals_a_neighbour_is_represented(self, bands):
        cube = background(bands)
        cube[:, 5, 5] = cube[:, 5, 15] = np.linspace(0.9, 0.1, bands) ** 2
        found = score(CRD(inner=3, outer=21, lam=1), cube)
        assert max(found[5, 5], found[5, 15]) < 1e-6 * np.median(found)

    def test_a_pixel_at_the_border_does_not_represent_itself(self):
        cube = background(60)
        cube[:, 6, 0] = np.linspace(0.9, 0.1, 60) ** 2
        found = score(CRD(), cube)
        assert found[6, 0] > 5 * np.median(found)


class TestLRASR:
    def test_the_dictionary_holds_typical_pixels_of_every_cluster(self):
        rng = np.random.default_rng(0)
        centres = np.eye(4, 6, dtype=np.float32)
        spectra = np.repeat(centres, 50, axis=0) + rng.normal(0, 0.01, (200, 6)).astype(np.float32)
        spectra[10] += 0.05
        D = dictionary(np.ascontiguousarray(spectra.T), 4, 10, 0)
        assert D.shape == (6, 40)
        assert np.bincount(D.T.dot(centres.T).argmax(axis=1)).tolist() == [10] * 4
        assert np.abs(D.T - spectra[10]).max(axis=1).min() > 0

    def test_the_parts_add_up_and_the_multipliers_keep_their_bound(self):
        cube = background(10, 20, 20)
        X = cube.reshape(10, -1)
        D = dictionary(X, 4, 6, 0)
        found = represent(X, D, 0.1, 0.5)
        assert found.residuals[-1] < 2e-3
        assert np.linalg.norm(X - D @ found.Z - found.E) < 2e-3 * np.linalg.norm(X)
        assert norms(found.Y).max() < 0.5 * 1.001
        apart = norms(found.E) > 0
        np.testing.assert_allclose(norms(found.Y)[apart], 0.5, rtol=1e-3)

    def test_what_the_dictionary_lacks_is_in_E(self):
        cube = background(10, 20, 20)
        X = cube.reshape(10, -1).copy()
        D = dictionary(X, 4, 6, 0)
        X[:, 111] = np.linspace(0.9, 0, 10) ** 3
        assert norms(represent(X, D, 0.1, 0.5).E).argmax() == 111

    @pytest.mark.parametrize(("beta", "lam", "offset"), [(0.1, 0.5, 0), (0, 0.5, 0), (1, 0.5, 0), (0.1, 0.5, 6)])
    def test_it_reaches_the_minimum(self, beta, lam, offset):
        """Below which nothing is: <X, Y> where |Y_j| <= lam and D'Y = A + B, |A|_2 <= 1, |B_ij| <= beta.

        A constant that all samples share must not end the iterations before E, which is small beside it, is known.
        """
        cube = background(10, 10, 15)
        cube[:, 4, 7] = np.linspace(0.9, 0, 10) ** 3
        X = 2 * cube.reshape(10, -1) + np.float32(offset)
        X *= np.float32(4 / np.linalg.norm(X.mean(axis=1)))
        D = dictionary(X, 3, 5, 0)
        E, Y, A = solved_at_length(X.astype(float), D.astype(float), beta, lam)
        bound = (X * Y).sum() / max(1, np.linalg.norm(A, 2))
        found = represent(X, D, beta, lam)
        rest = norms(X - D @ found.Z).sum()
        objective = np.linalg.norm(found.Z, "nuc") + beta * np.abs(found.Z).sum() + lam * rest
        assert 0.999 * bound < objective < 1.01 * bound
        assert np.linalg.norm(norms(found.E) - norms(E)) < 0.02 * np.linalg.norm(E)

    def test_iterations_that_do_not_suffice_are_told(self, monkeypatch):
        monkeypatch.setattr(lrasr, "ITERATIONS", 3)
        cube = background(10, 20, 30)
        found = detect_anomaly(cube, model="lrasr:clusters=4:atoms=6")
        assert any("lrasr stopped after 3 iterations" in note for note in found.summary["notes"])
        windows = detect_anomaly(cube, model="lrasr:clusters=4:atoms=6", window=16)
        assert any("lrasr stopped after 3 iterations" in note for note in windows.summary["notes"])


def solved_at_length(X, D, beta, lam, mu=2.0, iterations=600):
    """E, Y and A of ADMM with one penalty that is kept; |Y_j| <= lam, and the entries of D'Y - A are at most beta."""
    inverse = np.linalg.inv(D.T @ D + 2 * np.eye(D.shape[1]))
    J, W, A, B = np.zeros((4, D.shape[1], X.shape[1]))
    E, Y = X, np.zeros_like(X)
    for _ in range(iterations):
        Z = inverse @ (D.T @ (X - E + Y / mu) + J - A / mu + W - B / mu)
        E = shrink_columns(X - D @ Z + Y / mu, lam / mu)
        Y = Y + mu * (X - D @ Z - E)
        U, s, V = np.linalg.svd(Z + A / mu, full_matrices=False)
        J = (U * np.maximum(s - 1 / mu, 0)) @ V
        A = A + mu * (Z - J)
        W = Z + B / mu - np.clip(Z + B / mu, -beta / mu, beta / mu)
        B = B + mu * (Z - W)
    return E, Y, D.T @ Y - B


class TestRPCA:
    def planted(self):
        rng = np.random.default_rng(0)
        X = (rng.standard_normal((20, 2)) @ rng.standard_normal((2, 300))).astype(np.float32)
        S = np.zeros_like(X)
        S[:, ::60] = 3 * rng.standard_normal((20, 5))
        X[:, ::60] = 0
        return X, S

    def test_it_finds_the_subspace_and_the_outliers_exactly(self):
        """What the paper's Theorem 1 says: the column space of L, and which columns of S are not 0."""
        X, S = self.planted()
        found = outlier_pursuit(X + S, 0.4)
        assert found.residuals[-1] < 1e-5
        np.testing.assert_array_equal(norms(found.S) > 1e-3, norms(S) > 0)
        U = np.linalg.svd(X)[0][:, :2]
        assert np.linalg.norm(found.L - U @ (U.T @ found.L)) < 1e-3 * np.linalg.norm(found.L)

    def test_columns_that_are_no_outliers_are_in_order_too(self):
        X, S = self.planted()
        cube = (X + S).reshape(20, 15, 20)
        cube = (cube - cube.min()) / (cube.max() - cube.min())
        found = score(RPCA(), cube)
        assert len(np.unique(found)) > 290
        assert set(np.argsort(found.ravel())[-5:]) == set(range(0, 300, 60))

    @pytest.mark.parametrize("shape", [(6, 40), (40, 6)])
    def test_shrinking_singular_values(self, shape):
        A = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        U, s, V = np.linalg.svd(A, full_matrices=False)
        limit = float(s[3])
        expected = (U * np.maximum(s - limit, 0)) @ V
        np.testing.assert_allclose(shrink_singular(A, limit), expected, atol=1e-4)

    def test_shrinking_columns(self):
        Q = np.array([[3, 0.3, 0], [4, 0.4, 0]], np.float32)
        np.testing.assert_allclose(shrink_columns(Q, 1), [[2.4, 0, 0], [3.2, 0, 0]], rtol=1e-6)


def test_a_scene_may_be_known_by_a_part_of_its_spectra():
    cube = background()
    scene = scene_of(cube)
    part = replace(scene, sample=np.ascontiguousarray(scene.sample[:, ::3]))
    for name, spec in MODELS.items():
        assert np.isfinite(build(spec).fit(part)(cube, everywhere(cube))).all(), name


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: GlobalRX(components=0),
        lambda: LocalRX(inner=4),
        lambda: LocalRX(inner=9, outer=9),
        lambda: LocalRX(outer=22),
        lambda: KernelRX(components=0),
        lambda: KernelRX(landmarks=0),
        lambda: CRD(inner=15, outer=7),
        lambda: CRD(lam=0),
        lambda: CRD(lam=float("nan")),
        lambda: LRASR(clusters=0),
        lambda: LRASR(lam=-1),
        lambda: RPCA(outliers=0),
    ],
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(UsageError, match="got"):
        wrong()
