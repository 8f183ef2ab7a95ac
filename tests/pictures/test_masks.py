"""runner/pictures/masks.py: pictures with masks, what the masks mean, and what is wrong with some."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runner.data.examples import check_parts
from runner.errors import InputError
from runner.pictures import images, mask_values, masks, square
from runner.pictures.load import load

COLOURS = ((0, 0, 0), (128, 0, 0), (0, 128, 255))


def picture(number: int, size=(12, 8)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def index_mask(number: int = 0, size=(12, 8)) -> np.ndarray:
    """Columns of 0 and 1 with one pixel 2, one row ignored."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[:, 4:8] = 1
    mask[1, 2 + number % 4] = 2
    mask[-1] = 255
    return mask


def save(root, name, array, mode=None):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if mode == "P":
        image.putpalette([9, 9, 9] * 256)  # all colours alike: only the index tells
    image.save(root / name)


def fill(root, image_folder="images", mask_folder="masks", count=4, **options):
    for number in range(count):
        save(root, f"{image_folder}/{number}.png", picture(number))
        save(root, f"{mask_folder}/{number}.png", index_mask(number), **options)
    return root


def target(source, row=0, size=(12, 8)):
    return source.target(row, *size, 12, "stretch")


def test_images_and_masks_become_a_source(tmp_path):
    source = masks.find(fill(tmp_path))
    assert source.classes == ("0", "1", "2")
    assert source.examples["path"].tolist() == [f"images/{number}.png" for number in range(4)]
    assert set(source.examples["split"]) == {""}
    assert [Path(file).read_bytes()[:4] for file in source.read()] == [b"\x89PNG"] * 4
    for row in range(4):
        found = target(source, row)
        expected = square.resize_mask(index_mask(row), 12, "stretch", 255)
        np.testing.assert_array_equal(found.arrays["mask"], expected)
        assert found.amounts.tolist() == np.bincount(expected.ravel(), minlength=256)[:3].tolist()
        assert not found.problems


@pytest.mark.parametrize("form", ["trainannot", "masks"])
def test_splits_are_kept(tmp_path, form):
    for name in ("train", "val", "test"):
        if form == "masks":
            fill(tmp_path, f"{name}/images", f"{name}/masks")
        else:
            fill(tmp_path, name, f"{name}annot")
    source = masks.find(tmp_path)
    assert source.examples["split"].value_counts().to_dict() == {"train": 4, "val": 4, "test": 4}
    first = source.examples["path"][0]
    assert first == ("test/images/0.png" if form == "masks" else "test/0.png")


def test_of_a_palette_the_index_counts(tmp_path):
    plain, palette = masks.find(fill(tmp_path / "l")), masks.find(fill(tmp_path / "p", mode="P"))
    np.testing.assert_array_equal(target(plain).arrays["mask"], target(palette).arrays["mask"])
    assert palette.classes == plain.classes


@pytest.mark.parametrize("form", ["numbers", "hexadecimal"])
def test_colours_mean_what_the_file_of_classes_says(tmp_path, form):
    root = fill(tmp_path)
    lines = ["name,r,g,b"] * (form == "numbers")
    for name, colour in zip(("void", "road", "sky"), COLOURS, strict=True):
        written = f"#{bytes(colour).hex()}" if form == "hexadecimal" else ", ".join(map(str, colour))
        lines.append(f"{name}, {written}")
    (root / "classes.txt").write_text("\n".join(lines) + "\n")
    for number in range(4):
        values = np.where(index_mask(number) == 255, 0, index_mask(number))
        save(root, f"masks/{number}.png", np.array(COLOURS, np.uint8)[values])
    source = masks.find(root, ignore=(0,))
    assert source.classes == ("road", "sky")
    mask = mask_values.read(root / "masks/0.png", mask_values.meaning(root, [], (0,)))
    expected = np.where(index_mask() == 255, 0, index_mask())
    np.testing.assert_array_equal(mask, np.array([255, 0, 1], np.uint8)[expected])
    # A smoothed mask has colours between those of its classes.
    smooth = Image.open(root / "masks/1.png").resize((6, 4), Image.Resampling.BILINEAR)
    smooth.resize((12, 8), Image.Resampling.BILINEAR).save(root / "masks/1.png")
    with pytest.raises(images.Unreadable, match="a colour that is no class's, most of them #"):
        target(source, 1)


def test_an_object_may_be_white(tmp_path):
    root = fill(tmp_path)
    for number in range(4):
        save(root, f"masks/{number}.png", np.where(index_mask() == 1, 255, 0).astype(np.uint8))
    with pytest.raises(InputError, match="hold only 0 and 255"):
        masks.find(root)
    (root / "classes.txt").write_text("ground,0,0,0\nobject,255,255,255\n")
    source = masks.find(root)
    assert source.classes == ("ground", "object")
    expected = square.resize_mask((index_mask() == 1).astype(np.uint8), 12, "stretch", 255)
    np.testing.assert_array_equal(target(source).arrays["mask"], expected)


PALETTE = ((0, 0, 0), (128, 0, 0), (0, 128, 0))


def save_with_palette(root, name, colours, order, used=3):
    """A mask whose value i has the colour of number order[i], so that all show the same picture."""
    values = np.minimum(np.where(index_mask() == 255, 0, index_mask()), used - 1)
    image = Image.fromarray(np.argsort(order).astype(np.uint8)[values])
    image.putpalette([part for number in order for part in colours[number]])
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    image.save(root / name)


def test_palettes_in_another_order_are_read_by_colour_or_refused(tmp_path):
    root = fill(tmp_path, count=3)
    for number, order in enumerate(((0, 1, 2), (1, 0, 2), (2, 1, 0))):
        save_with_palette(root, f"masks/{number}.png", PALETTE, order)

    def answer() -> str:
        with pytest.raises(InputError) as error:
            masks.find(root)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "value 0 is #000000 in 'masks/0.png' and #800000 in 'masks/1.png'" in answer()
    assert "name,#000000 name,#008000 name,#800000" in answer() and "save masks as gray" in answer()
    (root / "classes.txt").write_text("ground\nroad\nsky\n")
    assert "palettes differ" in answer()  # names alone don't say which is which
    (root / "classes.txt").write_text("ground,#000000\nroad,#800000\nsky,#008000\n")
    source = masks.find(root)
    expected = square.resize_mask(np.where(index_mask() == 255, 0, index_mask()), 12, "stretch", 255)
    for row in range(3):
        np.testing.assert_array_equal(target(source, row).arrays["mask"], expected)


def test_palettes_of_what_each_mask_uses_are_refused_too(tmp_path):
    root = fill(tmp_path, count=2)
    save_with_palette(root, "masks/0.png", PALETTE, (0, 1), used=2)
    save_with_palette(root, "masks/1.png", (PALETTE[0], PALETTE[2]), (0, 1), used=2)
    with pytest.raises(InputError, match="value 1 is #800000 in .* and #008000 in"):
        masks.find(root)
    save_with_palette(root, "masks/1.png", PALETTE, (0, 1, 2))  # longer, and the same as far as both go
    assert masks.find(root).classes == ("0", "1", "2")
    # One colour for two values, here one and there the other: the colour tells them apart no better.
    save_with_palette(root, "masks/0.png", ((0, 0, 0), (9, 9, 9), (128, 0, 0)), (0, 1), used=2)
    save_with_palette(root, "masks/1.png", ((0, 0, 0), (128, 0, 0), (9, 9, 9)), (0, 1, 2))
    with pytest.raises(InputError, match="palettes differ"):
        masks.find(root)


def test_what_is_ignored_is_said(tmp_path):
    root = fill(tmp_path)
    for number in range(4):
        values = np.array([0, 127, 255], np.uint8)[np.where(index_mask(number) == 255, 0, index_mask(number))]
        values[:2] = 255
        save(root, f"masks/{number}.png", values)
    source = masks.find(root)
    assert source.classes == ("0", "127") and not source.remarks()
    for row in range(4):
        target(source, row)
    ((path, kind, message),) = source.remarks()
    assert (path, kind) == ("", "mask") and message.startswith(
        "25 % of the pixels of the masks are ignored (255)"
    )
    assert masks.find(root, ignore=()).classes == ("0", "127", "255")
    (root / "classes.txt").write_text("\n".join(f"c{n}" for n in range(128)))
    assert target(masks.find(root, ignore=(127, 255)), 0).amounts.sum() > 0
    named = mask_values.by_value({0: "ground", 11: "void"}, (11, 255))
    assert named.ignored == "11 'void', 255"


def smoothed(number: int) -> np.ndarray:
    """0 and 255 with the values between them that resizing gives."""
    small = Image.fromarray(np.where(index_mask(number) == 1, 255, 0).astype(np.uint8)).resize((7, 5))
    return np.asarray(small.resize((12, 8), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("classes", ["", "ground,#000000\nobject,#ffffff\n"])
def test_masks_that_were_smoothed_are_named_and_left_out(tmp_path, classes):
    root = fill(tmp_path, count=10)
    for number in range(10):
        hard = np.where(index_mask(number) == 1, 255, 0).astype(np.uint8)
        save(root, f"masks/{number}.png", smoothed(number) if number < 3 else hard)
    if not classes:
        with pytest.raises(InputError, match="hold only 0 and 255"):
            masks.find(root)
    (root / "classes.txt").write_text(classes) if classes else None
    source = masks.find(root, ignore=())
    assert len(source.classes) == 2
    for row in range(3):
        with pytest.raises(images.Unreadable, match="without smoothing"):
            target(source, row)
    assert target(source, 3).amounts.all() and target(source, 3).amounts.sum() == 144
    if not classes:
        for number in range(10):
            save(root, f"masks/{number}.png", smoothed(number))
        with pytest.raises(InputError, match="values between those of their classes"):
            masks.find(root, ignore=())


def test_a_split_whose_masks_are_ignored_is_said_before_training(tmp_path):
    for name in ("train", "val", "test"):
        fill(tmp_path, f"{name}/images", f"{name}/masks")
    for number in range(4):
        save(tmp_path, f"test/masks/{number}.png", np.full((8, 12), 255, np.uint8))
    with pytest.raises(InputError, match="a test split of 4 pictures without pixels that count"):
        check_parts(load(masks.find(tmp_path), 16))


def test_splits_may_stand_within_images_and_masks(tmp_path):
    for name in ("train", "Validation"):
        fill(tmp_path, f"images/{name}", f"masks/{name}")
    source = masks.find(tmp_path)
    assert source.examples["split"].value_counts().to_dict() == {"train": 4, "val": 4}
    assert source.examples["path"][0] == "images/Validation/0.png"
    (tmp_path / "images" / "test").mkdir()
    with pytest.raises(InputError, match="whose folder 'test' has no masks"):
        masks.find(tmp_path)


def test_no_message_advises_what_would_mix_splits(tmp_path):
    fill(tmp_path / "a", "images/Training Set", "masks/Training Set")
    with pytest.raises(InputError, match="a split among pictures") as error:
        masks.find(tmp_path / "a")
    assert "up" not in str(error.value).split()
    fill(tmp_path / "b", "Training Set/images", "Training Set/masks")
    with pytest.raises(InputError, match="'Training Set' looks like a split; call it train"):
        masks.find(tmp_path / "b")


def test_photos_of_a_telephone_count_where_they_have_a_mask(tmp_path):
    root = fill(tmp_path)
    Image.fromarray(picture(0)).save(root / "images" / "0.heic", "PNG")  # beside its 0.png
    (root / "images" / "1.png").rename(root / "images" / "1.HEIC")
    Image.fromarray(picture(9)).save(root / "images" / "9.heic", "PNG")  # without a mask
    names = masks.find(root).examples["path"].tolist()
    assert names == ["images/0.png", "images/1.HEIC", "images/2.png", "images/3.png"]


def test_names_in_two_unicode_forms_are_one(tmp_path):
    save(tmp_path, "images/caf\u00e9.png", picture(0))
    save(tmp_path, "masks/cafe\u0301.png", index_mask())
    assert len(masks.find(tmp_path).examples) == 1
    save(tmp_path, "masks/caf\u00e9.png", index_mask())
    with pytest.raises(InputError, match="Unicode form"):
        masks.find(tmp_path)


def test_names_and_ignored_values_number_the_classes_anew(tmp_path):
    root = fill(tmp_path)
    names = tmp_path / "names.txt"
    names.write_text("ground\nroad\nsky\nnever\n")
    source = masks.find(root, ignore=(255, 0), classes=names)
    assert source.classes == ("road", "sky", "never")
    mask = target(source).arrays["mask"]
    expected = square.resize_mask(index_mask(), 12, "stretch", 255)
    np.testing.assert_array_equal(mask, np.array([255, 0, 1] + [255] * 253, np.uint8)[expected])


def test_masks_that_mean_nothing_are_unreadable(tmp_path):
    root = fill(tmp_path, count=12)
    (root / "classes.txt").write_text("ground\nroad\nsky\n")
    save(root, "masks/1.png", index_mask(size=(10, 8)))
    wrong = index_mask()
    wrong[0, :3] = 9
    save(root, "masks/2.png", wrong)
    (root / "masks/3.png").unlink()
    save(root, "masks/3.jpg", index_mask())
    save(root, "masks/4.png", picture(0))
    (root / "masks/5.png").write_bytes((root / "masks/5.png").read_bytes()[:40])
    save(root, "masks/6.png", np.full((8, 12), 255, np.uint8))
    source = masks.find(root)
    row_of = {path: row for row, path in enumerate(source.examples["path"])}
    for number, part in (
        (1, "10 x 8 pixels and the picture, upright, 12 x 8"),
        (2, "3 pixels of its mask have a value that is none of the 3 classes', such as 9"),
        (3, "a JPEG"),
        (4, "in colours"),
        (5, "cannot be decoded"),
    ):
        with pytest.raises(images.Unreadable, match=part) as error:
            target(source, row_of[f"images/{number}.png"])
        assert "\n" not in str(error.value)
    assert target(source, row_of["images/6.png"]).problems == (("mask", "all of its mask is ignored"),)
    # Loading names them and goes on, or stops.
    loaded = load(source, 16, val_fraction=0.3, test_fraction=0.3)
    assert (loaded.manifest["split"] == "skipped").sum() == 5
    assert loaded.train.element_spec["mask"].shape == (16, 16)
    with pytest.raises(InputError, match="of whose 12 files 5 cannot be used"):
        load(source, 16, on_bad_data="stop")


def test_wrong_folders_are_answered_in_one_line(tmp_path):
    def answer(part, source=tmp_path, **options):
        with pytest.raises(InputError, match=part) as error:
            masks.find(source, **options)
        assert "\n" not in str(error.value)

    answer("which is not there", tmp_path / "nowhere")
    answer("Did you mean 'scenes'", "scene")
    answer("a folder without masks")
    fill(tmp_path / "inner")
    answer("Did you mean '.*inner'")
    root = tmp_path / "inner"
    answer("values of a mask are 0 to 255", root, ignore=(256,))
    answer("are all ignored", root, ignore=(0, 1, 2, 255))
    answer("which is not there; give a line per class", root, classes="no.txt")
    for text, part in (
        ("a,0,0\n", "a line is name"),
        ("a,0,0,300\n", "a line is name"),
        ("a,0,0,0\nb,0,0,0\n", "one colour for 'a' and 'b'"),
        ("a,0,0,0\nb\n", "colours for 1 of 2"),
        ("a\na\n", "1 different names in 2 lines"),
        ("", "0 different names"),
    ):
        (root / "classes.txt").write_text(text)
        answer(part, root)
    (root / "classes.txt").unlink()
    save(root, "images/4.png", picture(4))
    answer("1 of 5 pictures in 'images' have no mask in 'masks', such as '4.png'", root)
    save(root, "images/4.jpg", picture(4))
    answer("differ in their endings alone", root)
    (root / "images/4.jpg").unlink()
    (root / "images/4.png").unlink()
    save(root, "masks/5.png", index_mask())
    assert masks.find(root).problems == [("masks/5.png", "mask", "a mask without a picture is left out")]
    for file in (root / "images").iterdir():
        file.unlink()
    answer("holds no pictures", root)
    fill(tmp_path / "split", "train", "trainannot")
    (tmp_path / "split" / "val").mkdir()
    answer("whose folder 'val' has no masks", tmp_path / "split")
    fill(tmp_path / "coloured")
    for number in range(4):
        save(tmp_path / "coloured", f"masks/{number}.png", picture(number))
    answer("none of whose 4 masks can be used, such as 'masks/0.png' .its mask", tmp_path / "coloured")


@pytest.mark.parametrize("resize", square.RESIZES)
@pytest.mark.parametrize("shape", [(40, 64), (64, 40)])
def test_a_mask_goes_back_to_the_size_of_its_picture(shape, resize):
    mask = np.zeros(shape, np.uint8)
    mask[10:30, 12:28] = 1
    small = square.resize_mask(mask, 128, resize, 255)
    back = square.mask_at_own_size(small, shape[1], shape[0], resize, 255)
    assert back.shape == shape
    cut = back == 255
    assert cut.sum() == ((64 - 40) * 40 if resize == "crop" else 0)
    np.testing.assert_array_equal(back[~cut], mask[~cut])


def test_scenes_come_with_their_masks():
    source = masks.find("scenes")
    assert source.classes == ("background", "disc", "ring", "square", "triangle", "cross", "star")
    assert source.examples["split"].value_counts().to_dict() == {"train": 800, "test": 400, "val": 200}
    found = source.target(5, 96, 96, 96, "crop")
    assert found.arrays["mask"].shape == (96, 96) and found.amounts.sum() == 96 * 96
    assert (found.amounts[1:] > 0).any()
    with pytest.raises(InputError, match="choose a dataset for segmentation"):
        masks.find("digits_in_photos")
