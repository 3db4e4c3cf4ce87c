"""Patch cubes: cutting and pasting are adjoint, borders are mirrored, mode products are what they are called."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from rsunfold.unfold import patches
from rsunfold.unfold.patches import BORDER, SIDE, PatchGrid, analysis, dct_dictionary, mirrored, synthesis

SIZES = [(1, 1), (1, 14), (13, 2), (5, 9), (12, 17)]
GRIDS = [(*size, rank, stride) for size in SIZES for rank, stride in itertools.product((9, 10, 20), (1, 2, 3))]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def whole(grid: PatchGrid) -> slice:
    (part,) = grid.parts(None)
    return part


@pytest.mark.parametrize(("rows", "cols", "rank", "stride"), GRIDS)
def test_pasting_is_the_adjoint_of_cutting(rows, cols, rank, stride):
    grid = PatchGrid(rows, cols, rank, stride=stride)
    G = draw(rank, *grid.padded)
    cut = grid.cut(G, whole(grid))
    X = draw(*cut.shape, seed=1)
    pasted = grid.paste(X, whole(grid))
    assert cut.shape[:3] == (len(grid.places), SIDE, SIDE**2) and pasted.shape == G.shape
    assert float((cut * X).sum()) == pytest.approx(float((G * pasted).sum()), rel=1e-12, abs=1e-9)


@pytest.mark.parametrize(("rows", "cols", "rank", "stride"), GRIDS)
def test_counts_are_pasted_ones(rows, cols, rank, stride):
    grid = PatchGrid(rows, cols, rank, stride=stride)
    patches = (len(grid.places), grid.across[0] * grid.across[1])
    weight = draw(*patches).abs() + 0.1
    filled = weight[:, None, None].expand(-1, SIDE, SIDE**2, -1)
    count = grid.count(weight, whole(grid))
    torch.testing.assert_close(count, grid.paste(filled, whole(grid)))
    assert float(count.min()) > 0  # every value lies in a patch


def test_every_patch_is_the_cube_at_its_place():
    grid = PatchGrid(7, 6, 20, stride=3)
    G = draw(20, *grid.padded)
    cut = grid.cut(G, whole(grid)).view(len(grid.places), SIDE, SIDE, SIDE, *grid.across)
    assert grid.places == [0, 9, 11]  # the last is moved back, so that it fits
    for n, i, j in np.ndindex(len(grid.places), *grid.across):
        s, r, c = grid.places[n], 3 * i, 3 * j
        assert torch.equal(cut[n, ..., i, j], G[s : s + 9, r : r + 9, c : c + 9])


@pytest.mark.parametrize("rank", [9, 20])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("patches", [1, 7, 30, 10_000])
def test_parts_together_are_the_whole(rank, stride, patches):
    grid = PatchGrid(19, 8, rank, stride=stride)
    G = draw(rank, *grid.padded)
    parts, (all_of_it,) = grid.parts(patches), grid.parts(None)
    assert [p.start for p in parts[1:]] == [p.stop for p in parts[:-1]]
    assert len(parts) > 1 or patches > 20
    cut = [grid.cut(G, part) for part in parts]
    X = draw(*grid.cut(G, all_of_it).shape, seed=1)
    assert torch.equal(torch.cat(cut, dim=3), grid.cut(G, all_of_it))
    split = X.split([c.shape[3] for c in cut], dim=3)
    gathered = grid.gathered((part, grid.paste(x, part)) for part, x in zip(parts, split, strict=True))
    torch.testing.assert_close(gathered, grid.gathered([(all_of_it, grid.paste(X, all_of_it))]))
    counted = grid.gathered((part, grid.count(x[:, 0, 0], part)) for part, x in zip(parts, split, strict=True))
    torch.testing.assert_close(counted, grid.count(X[:, 0, 0], all_of_it))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("border", [BORDER, 0])
def test_padding_mirrors_and_cropping_undoes_it(stride, border):
    for rows, cols in [(n, 7) for n in range(1, 14)] + [(7, n) for n in range(1, 14)]:
        grid = PatchGrid(rows, cols, 9, stride=stride, border=border)
        x = draw(2, rows, cols)
        padded = grid.pad(x)
        assert padded.shape == (2, *grid.padded) and torch.equal(grid.crop(padded), x)
        assert all(p >= max(n + 2 * border, SIDE) for p, n in zip(grid.padded, (rows, cols), strict=True))
        after = [(border, p - n - border) for p, n in zip(grid.padded, (rows, cols), strict=True)]
        expected = np.pad(x.numpy(), ((0, 0), *after), mode="reflect")
        assert np.array_equal(padded.numpy(), expected)


def test_mirroring_of_one_and_of_few_entries():
    assert mirrored(1, 2, 3).tolist() == [0] * 6
    assert mirrored(2, 3, 2).tolist() == [1, 0, 1, 0, 1, 0, 1]
    assert mirrored(4, 5, 1).tolist() == [1, 2, 3, 2, 1, 0, 1, 2, 3, 2]


def test_a_window_at_multiples_of_the_stride_has_the_patches_of_the_image():
    image, window = PatchGrid(30, 30, 9, stride=3), PatchGrid(18, 21, 9, stride=3)
    x = draw(9, 30, 30)
    of_image = image.cut(image.pad(x), whole(image)).view(1, 9, 81, *image.across)
    part = window.pad(x[:, 6:24, 3:24])
    of_window = window.cut(part, whole(window)).view(1, 9, 81, *window.across)
    inside = of_window[..., 2:4, 2:4]  # the first two rows of patches reach into the border of 4
    assert torch.equal(inside, of_image[..., 4:6, 3:5])


def test_fewer_eigen_images_than_a_patch_has_are_refused():
    with pytest.raises(ValueError, match="at least 9 eigen-images, not 8"):
        PatchGrid(9, 9, 8)


def test_synthesis_is_three_mode_products_and_analysis_its_adjoint():
    B, X = draw(2, 9, 81, 5), draw(2, 9, 81, 5, seed=1)
    D1, D2, D3 = (draw(9, 9, seed=s) for s in (2, 3, 4))
    D23 = torch.kron(D2, D3)
    made = synthesis(B, D1, D23)
    cube = torch.einsum("sa,rb,ct,nabtl->nsrcl", D1, D2, D3, B.view(2, 9, 9, 9, 5))
    torch.testing.assert_close(made, cube.reshape(2, 9, 81, 5))
    assert float((made * X).sum()) == pytest.approx(float((B * analysis(X, D1, D23)).sum()), rel=1e-12)
    back = torch.einsum("as,br,tc,nabtl->nsrcl", D1, D2, D3, X.view(2, 9, 9, 9, 5))
    torch.testing.assert_close(analysis(X, D1, D23), back.reshape(2, 9, 81, 5))


@pytest.mark.parametrize("size", [1, 4, SIDE])
def test_the_cosine_basis_is_orthonormal_and_rises_in_frequency(size, monkeypatch):
    monkeypatch.setattr(patches, "SIDE", size)
    D = dct_dictionary()
    torch.testing.assert_close(D.mT @ D, torch.eye(size))
    torch.testing.assert_close(D[:, 0], torch.full((size,), size**-0.5))
    signs = [[float(v) > 0 for v in D[:, k] if abs(float(v)) > 1e-6] for k in range(size)]
    assert [sum(a != b for a, b in itertools.pairwise(column)) for column in signs] == list(range(size))
