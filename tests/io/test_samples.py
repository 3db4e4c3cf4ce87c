"""Sets of images and masks in folders, and what is wrong with some."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from skimage.io import imsave

from rsunfold.cube import Aside
from rsunfold.errors import InputError
from rsunfold.io.samples import find_samples, keep_only, mask_values, notes_on, pair, read_mask, read_score


def write(path: Path, data=None, **profile) -> Path:
    """A small PNG or TIFF of one band per leading row of ``data``."""
    data = np.zeros((4, 5), np.uint8) if data is None else np.asarray(data)
    data = data[None] if data.ndim == 2 else data
    path.parent.mkdir(parents=True, exist_ok=True)
    driver = "PNG" if path.suffix == ".png" else "GTiff"
    size = {"count": len(data), "height": data.shape[1], "width": data.shape[2], "dtype": data.dtype}
    with rasterio.open(path, "w", driver=driver, **size, **profile) as ds:
        ds.write(data)
    return path


def make_set(folder: Path, names=("a1", "a2", "a10"), suffix="") -> Path:
    for name in names:
        write(folder / "images" / f"{name}.png")
        write(folder / "masks" / f"{name}{suffix}.png")
    return folder


def test_complex_samples_are_neither_masks_nor_scores(tmp_path):
    kind = {"driver": "GTiff", "width": 3, "height": 2, "count": 1, "dtype": "complex64"}
    with rasterio.open(tmp_path / "c.tif", "w", **kind) as ds:
        ds.write(np.ones((1, 2, 3), np.complex64))
    for read in (read_mask, read_score):
        with pytest.raises(InputError, match="contains complex samples"):
            read(tmp_path / "c.tif")


def test_one_set_in_natural_order(tmp_path):
    found = find_samples(make_set(tmp_path / "one"))
    assert [(s.group, s.name) for s in found] == [("one", "a1"), ("one", "a2"), ("one", "a10")]
    assert all(s.image.parent.name == "images" and s.mask.parent.name == "masks" for s in found)


def test_the_present_folder_has_a_name_too(tmp_path, monkeypatch):
    monkeypatch.chdir(make_set(tmp_path / "here"))
    assert {s.group for s in find_samples(Path())} == {"here"}


def test_several_sets_and_one_without_targets(tmp_path):
    make_set(tmp_path / "b", suffix="_pixels0")
    make_set(tmp_path / "c", suffix="_mask")
    write(tmp_path / "a" / "sky.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    found = find_samples(tmp_path)
    assert [s.group for s in found] == ["a"] + ["b"] * 3 + ["c"] * 3
    assert found[0].mask is None and [a.sum() for a in found[0].truth((4, 5))] == [0, 20]
    assert found[1].mask.name == "a1_pixels0.png" and found[4].mask.name == "a1_mask.png"


def test_results_beside_images_are_no_samples(tmp_path):
    make_set(tmp_path / "b", ("x",))
    for folder, name in ((tmp_path / "b" / "images", "x"), (tmp_path / "sky", "s")):
        for ending in (".png", "_score.tif", "_mask.tif", "_quicklook.png"):
            write(folder / f"{name}{ending}")
        (folder / f"{name}_summary.json").touch()
    assert [(s.group, s.name) for s in find_samples(tmp_path)] == [("b", "x"), ("sky", "s")]


def test_split_file_limits_the_sets_that_have_it(tmp_path):
    make_set(tmp_path / "b", ("x 1", "y"))
    make_set(tmp_path / "c", ("z",))
    (tmp_path / "b" / "train.txt").write_text("\nx 1\n")
    assert [s.name for s in find_samples(tmp_path, "train.txt")] == ["x 1", "z"]
    assert len(find_samples(tmp_path)) == 3


def test_names_in_lists_may_have_the_extension_of_an_image(tmp_path):
    one = make_set(tmp_path / "one", ("a1", "a1.png", "b.v2", "c", "d"))
    listing = one / "train.txt"
    listing.write_text("a1.png\nb.v2.tif\nc.PNG\nd.img\n")
    listed = ["a1.png", "b.v2", "c", "d"]
    assert sorted(s.name for s in find_samples(one, "train.txt")) == listed
    assert sorted(s.name for s in keep_only(find_samples(one), listing)) == listed
    listing.write_text("one/c.png\n")
    assert [s.name for s in keep_only(find_samples(one), listing)] == ["c"]
    listing.write_text("c.v3\n")
    with pytest.raises(InputError, match=r"no image 'c\.v3'"):
        find_samples(one, "train.txt")


def test_split_file_errors(tmp_path):
    make_set(tmp_path / "b")
    with pytest.raises(InputError, match=r"no set in .* has a file trian\.txt that lists its training images"):
        find_samples(tmp_path, "trian.txt")
    (tmp_path / "b" / "train.txt").write_text("a1\nabsent\ngone")
    with pytest.raises(InputError, match=r"contains no image 'absent' \(2 of the listed names are missing\)"):
        find_samples(tmp_path, "train.txt")
    (tmp_path / "b" / "train.txt").write_text("\n")
    with pytest.raises(InputError, match="contains no images listed in the split file"):
        find_samples(tmp_path, "train.txt")
    (tmp_path / "b" / "train.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match=r"the list .*train\.txt cannot be read"):
        find_samples(tmp_path, "train.txt")


def test_folders_that_hold_no_set(tmp_path):
    with pytest.raises(InputError, match=r"the data folder .*absent does not exist"):
        find_samples(tmp_path / "absent")
    with pytest.raises(InputError, match="neither images/ and masks/ nor sub-folders"):
        find_samples(tmp_path)
    (tmp_path / "frame.png").touch()
    with pytest.raises(
        InputError, match=r"contains images itself, but .* another sub-folder if none of them has a target"
    ):
        find_samples(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"the folder .*masks does not exist"):
        find_samples(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="images contains no images"):
        find_samples(tmp_path)


def test_files_in_place_of_folders(tmp_path):
    """Such as the truth.json that ``sample ir`` writes beside the masks."""
    images, file = make_set(tmp_path) / "images", tmp_path / "truth.json"
    file.touch()
    for given in (lambda: pair("set", images, file), lambda: pair("set", file, images), lambda: find_samples(file)):
        with pytest.raises(InputError, match=r"truth\.json is a file; give the folder that contains the "):
            given()


@pytest.mark.parametrize(
    ("wrong", "masks"),
    [
        ("image", "masks"),
        ("set/image", "masks"),
        ("IRSTD1k_Img", "IRSTD1k_Label"),
        ("set/IRSTD1k_Img", "IRSTD1k_Label"),
        ("img", "ground truth"),
        ("Pictures", "Masks"),
        ("img", "PixelwiseMasks"),
        ("img", "masks_1"),
        ("img", "LabelImages"),
    ],
)
def test_masks_without_images_are_not_taken_for_target_free_pictures(tmp_path, wrong, masks):
    make_set(tmp_path / "good")
    write(tmp_path / wrong / "a.png")
    write((tmp_path / wrong).parent / masks / "a.png")
    with pytest.raises(InputError, match=f"contains {masks}/ but no images/; the folders of a set"):
        find_samples(tmp_path)


def test_hidden_folders_and_those_of_training_runs_are_no_sets(tmp_path):
    make_set(tmp_path / "b", ("x",))
    write(tmp_path / ".trash" / "y.png")
    write(tmp_path / "run" / "log.png")
    for name in ("log.csv", "validation.txt"):
        (tmp_path / "run" / name).touch()
    assert [(s.group, s.name) for s in find_samples(tmp_path)] == [("b", "x")]


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    make_set(tmp_path / "b")
    (tmp_path / "closed").mkdir()
    listed = Path.iterdir

    def iterdir(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(InputError, match=r"the folder .*closed cannot be read .Permission denied"):
        find_samples(tmp_path)


def test_folders_that_only_sound_like_masks_are_sets_without_targets(tmp_path):
    make_set(tmp_path / "b", ("x",))
    for name in ("unlabelled", "masked sky", "results/labels"):
        write(tmp_path / name / "y.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "._y.png").touch()
    write(tmp_path / "results" / "labels" / "y.tif")  # of the same stem, but never read
    assert [(s.group, s.name) for s in find_samples(tmp_path)] == [("b", "x"), ("masked sky", "y"), ("unlabelled", "y")]


@pytest.mark.parametrize("inside", ["train/a.png", "readme.txt"])
def test_masks_that_are_not_where_they_should_be(inside, tmp_path):
    write(tmp_path / "set" / "a.png")
    (tmp_path / "set" / "masks" / inside).parent.mkdir(parents=True)
    (tmp_path / "set" / "masks" / inside).touch()
    with pytest.raises(InputError, match="set contains masks/ but no images/"):
        find_samples(tmp_path)


@pytest.mark.parametrize("kind", ["inverted", "miniswhite"])
def test_a_truth_that_is_mostly_target_is_refused(tmp_path, kind):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 3] = 1
    if kind == "inverted":
        path = write(tmp_path / "m.png", 255 * (1 - mask))
    else:  # as tifffile and scikit-image write boolean arrays
        path = write(tmp_path / "m.tif", mask, nbits=1, photometric="MINISWHITE")
    with pytest.raises(InputError, match=r"marks 97% of the pixels as targets; .* invert it, and store it with 8 bits"):
        read_mask(path, truth=True)
    assert read_mask(path)[0].sum() == 62  # a prediction may be anything
    chip = write(tmp_path / "chip.png", 255 * np.pad(np.ones((6, 6), np.uint8), 1))
    assert read_mask(chip, truth=True)[0].sum() == 36


def test_an_image_without_mask(tmp_path):
    make_set(tmp_path)
    (tmp_path / "masks" / "a2.png").unlink()
    with pytest.raises(
        InputError, match=r"masks contains no mask for a2\.png; an image without targets needs an empty"
    ):
        pair("x", tmp_path / "images", tmp_path / "masks")
    assert [s.name for s in pair("x", tmp_path / "images", tmp_path / "masks", {"a1"})] == ["a1"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["b.txt"], "b.txt is no mask"),  # YOLO
        (["a.png", "b.XML"], "b.XML is no mask"),  # VOC
        (["instances.json"], "instances.json is no mask"),  # COCO
        (["a.png", "readme.txt"], "contains no mask for b.png"),
    ],
)
def test_boxes_in_the_place_of_masks(tmp_path, names, told):
    for name in ("images/a.png", "images/b.png", *(f"masks/{name}" for name in names)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    if "a.png" not in names:
        (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(InputError, match=told) as caught:
        find_samples(tmp_path)
    assert ("draw the targets of b.png as an image" in str(caught.value)) == ("is no mask" in told)


def test_keep_only(tmp_path):
    samples = find_samples(make_set(tmp_path / "one", ("a 1", "a2", "a10")))
    listing = tmp_path / "list.txt"
    listing.write_text("a10\none/a 1\n")
    assert [s.name for s in keep_only(samples, listing)] == ["a10", "a 1"]
    for content, message in (
        ("two/a1", "lists 'two/a1', .* the sets here are called .*, one"),
        ("", "lists no images"),
    ):
        listing.write_text(content)
        with pytest.raises(InputError, match=message):
            keep_only(samples, listing)
    with pytest.raises(InputError, match="cannot be read"):
        keep_only(samples, tmp_path / "absent.txt")
    listing.write_bytes(b"\xef\xbb\xbfa10\r\na2\r\n")  # as Windows writes it
    assert [s.name for s in keep_only(samples, listing)] == ["a2", "a10"]


@pytest.mark.parametrize(
    ("values", "dtype", "profile", "expected"),
    [
        ([0, 127, 128, 255], np.uint8, {}, [0, 0, 1, 1]),
        ([0, 1, 1, 0], np.uint8, {}, [0, 1, 1, 0]),
        ([0, 1, 1, 0], np.uint8, {"nbits": 1}, [0, 1, 1, 0]),
        ([0, 127, 128, 255], np.uint16, {}, [0, 0, 1, 1]),
        ([0, 32767, 32768, 65535], np.uint16, {}, [0, 0, 1, 1]),
        ([0, 0.4, 0.6, 1], np.float32, {}, [0, 0, 1, 1]),
        ([0, 255, 0, np.nan], np.float32, {}, [0, 1, 0, 0]),
        ([0, 255, 0, 0], np.uint8, {"nodata": 255}, [0, 0, 0, 0]),
        ([0, 0, 0, 0], np.uint8, {}, [0, 0, 0, 0]),
    ],
)
def test_masks_are_cut_at_half_of_their_range(tmp_path, values, dtype, profile, expected):
    path = write(tmp_path / "m.tif", np.array([values], dtype), **profile)
    np.testing.assert_array_equal(read_mask(path)[0], np.array([expected], bool))


@pytest.mark.parametrize(
    ("values", "nodata", "known"),
    [
        ([0, 1, 255, 0], 255, [1, 1, 0, 1]),
        ([0, 1, 1, 0], 0, [1, 1, 1, 1]),  # nodata is the background
        ([0, 0, 0, 0], 0, [1, 1, 1, 1]),
        ([0, 1, 1, 0], None, [1, 1, 1, 1]),
    ],
)
def test_what_a_mask_does_not_know(tmp_path, values, nodata, known):
    path = write(tmp_path / "m.tif", np.array([values], np.uint8), nodata=nodata)
    mask, found = read_mask(path, truth=True)
    assert mask.ravel().tolist() == [v == 1 for v in values] and found.ravel().tolist() == [bool(k) for k in known]


def test_a_truth_that_numbers_its_targets_is_refused(tmp_path):
    path = write(tmp_path / "m.tif", np.array([[0, 1, 2]], np.uint8))
    with pytest.raises(InputError, match=r"m\.tif has values up to 2, none above half of 255: a target mask contains"):
        read_mask(path, truth=True)
    assert not read_mask(write(tmp_path / "e.tif", np.zeros((1, 3), np.uint8)), truth=True)[0].any()


@pytest.mark.parametrize("truth", [False, True])
def test_so_many_numbers_that_some_are_above_half_of_the_range_are_refused(tmp_path, truth):
    numbers = np.zeros((40, 60), np.uint8)
    numbers[::3, ::3].flat[:180] = np.arange(1, 181)
    with pytest.raises(
        InputError, match=r"m\.tif numbers its targets from 1 to 180: a target mask contains 0 and 1, or"
    ):
        read_mask(write(tmp_path / "m.tif", numbers), truth=truth)
    grey = np.arange(240, dtype=np.uint8).reshape(12, 20)  # values that are no numbers of groups
    grey[0, 0] = 200
    assert read_mask(write(tmp_path / "g.tif", grey))[0].sum() == (grey > 127).sum()


def test_0_1_and_255_may_mean_two_things(tmp_path):
    values = np.array([[0, 1, 255]], np.uint8)
    with pytest.raises(InputError, match=r"m\.png contains 0, 1 and 255, .*: declare 255 as nodata if"):
        read_mask(write(tmp_path / "m.png", values))
    for among in (values, [0, 1, 2, 255]):
        one = write(tmp_path / "one.png", np.array([[0, 1, 1]], np.uint8))
        files = [one, write(tmp_path / "two.png", np.array([among], np.uint8).reshape(1, -1))]
        wide = write(tmp_path / "wide.png", np.array([[0, 65535, 0]], np.uint16))
        if len(np.unique(among)) == 3:
            with pytest.raises(InputError, match=r"the masks in .* contain 0, 1 and 255"):
                mask_values(files)
        else:  # a range that all of a type share
            found = mask_values([*files, wide])
            assert not read_mask(one, among=found)[0].any() and read_mask(one)[0].sum() == 2
            assert read_mask(files[1], among=found)[0].any() and read_mask(wide, among=found)[0].sum() == 1


def test_a_prediction_that_numbers_its_targets_is_refused(tmp_path):
    numbers = np.zeros((8, 9), np.uint8)
    numbers[1, 1], numbers[5, 5] = 1, 2
    imsave(tmp_path / "m.png", numbers, check_contrast=False)
    with pytest.raises(InputError, match="has values up to 2, none above half of 255"):
        read_mask(tmp_path / "m.png")
    numbers[1, 3] = 1
    imsave(tmp_path / "s.png", numbers, check_contrast=False)  # how sure it is
    imsave(tmp_path / "t.png", 100 * numbers, check_contrast=False)
    assert not read_mask(tmp_path / "s.png", among=mask_values([tmp_path / "s.png", tmp_path / "t.png"]))[0].any()
    with rasterio.open(tmp_path / "f.tif", "w", driver="GTiff", width=9, height=8, count=1, dtype="float32") as ds:
        ds.write(numbers.astype(np.float32) / 4, 1)
    with pytest.raises(InputError, match="none above half of 1: a target mask contains 0 and 1"):
        read_mask(tmp_path / "f.tif", truth=True)


@pytest.mark.parametrize(
    ("largest", "dtype", "full", "hint"),
    [
        (100, np.uint8, 255, ""),
        (127, np.uint8, 255, "; give --threshold if these are scores"),
        (4095, np.uint16, 65535, "; give --threshold if these are scores"),
    ],
)
def test_predictions_none_of_which_is_above_half_of_the_range_are_refused(tmp_path, largest, dtype, full, hint):
    """Such as masks times 100, or of 12 bits in 16."""
    none = write(tmp_path / "a.png", np.zeros((1, 3), dtype))
    some = write(tmp_path / "b.png", np.array([[0, largest, 3 if hint else 0]], dtype))
    wanted = f"up to {largest}, none above half of {full}: a target mask contains 0 and 1, or 0 and {full}{hint}."
    with pytest.raises(InputError, match=re.escape(f"{tmp_path} ({np.dtype(dtype)}) has values {wanted}")):
        read_mask(none, among=mask_values([none, some]))
    assert not read_mask(none, among=mask_values([none]))[0].any()


def test_notes_on_many_files():
    files = [(Path(f"{n}.tif"), ["a", Aside("b"), "c"] if n % 2 else [Aside("b")]) for n in range(10)]
    assert notes_on(files) == [
        *[f"{n}.tif: {note}" for n in (1, 3, 5) for note in "ac"],
        "there are notes on 2 more files",
    ]
    assert notes_on(files[:6]) == notes_on(files)[:-1] and notes_on(files[:1]) == []


def test_a_list_of_a_set_without_targets_is_checked_too(tmp_path):
    write(tmp_path / "sky" / "a.png")
    (tmp_path / "sky" / "train.txt").write_text("b.png")
    with pytest.raises(InputError, match=r"sky contains no image 'b\.png'"):
        find_samples(tmp_path, "train.txt")


def test_masks_of_several_bands(tmp_path):
    same = np.zeros((3, 2, 2), np.uint8)
    same[:, 0, 1] = 255
    assert read_mask(write(tmp_path / "same.png", same))[0].sum() == 1
    same[1, 1, 1] = 255
    with pytest.raises(InputError, match=r"other\.png has 3 bands that differ, .*: convert it to 8 bits with 255 for"):
        read_mask(write(tmp_path / "other.png", same))


def test_mask_of_another_size(tmp_path):
    make_set(tmp_path, ("a",))
    sample = find_samples(tmp_path)[0]
    with pytest.raises(InputError, match=r"masks/a\.png is \(4, 5\) but .*images/a\.png is \(5, 4\)"):
        sample.truth((5, 4))


def test_the_indices_of_a_class_map_are_a_mask(tmp_path):
    """An ENVI Classification whose targets are red."""
    (tmp_path / "m.dat").write_bytes(bytes([0, 1, 0, 1]))
    (tmp_path / "m.hdr").write_text(
        "ENVI\nsamples = 2\nlines = 2\nbands = 1\nheader offset = 0\nfile type = ENVI Classification\ndata type = 1\n"
        "interleave = bsq\nbyte order = 0\nclasses = 2\nclass lookup = {0, 0, 0, 255, 0, 0}\n"
        "class names = {Unclassified, Target}\n"
    )
    for name in ("m.hdr", "m.dat"):
        assert read_mask(tmp_path / name, truth=True)[0].ravel().tolist() == [False, True, False, True]


@pytest.mark.parametrize("end", ["_mask", "_pixels0"])
def test_masks_beside_images_are_no_images_without_targets(tmp_path, end):
    folder = tmp_path / "flight 1"
    folder.mkdir()
    for name in ("a", f"a{end}", "b_mask"):
        imsave(folder / f"{name}.png", np.zeros((8, 8), np.uint8), check_contrast=False)
    with pytest.raises(InputError, match=rf"flight 1 contains masks beside the images, such as a{end}\.png; put them"):
        find_samples(tmp_path)
    (folder / f"a{end}.png").unlink()
    assert [s.name for s in find_samples(tmp_path)] == ["a", "b_mask"]
