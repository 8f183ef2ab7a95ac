"""Whatever comes in, a right answer or one line that says what is wrong.

Hypothesis draws the examples, the same ones each time.
"""

import io
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from runner import fields, flags
from runner.data import splits
from runner.errors import InputError
from runner.pictures import images, sources, square
from runner.stage import Stage
from templates.image_classification.config import Config

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = int(os.environ.get("THAW_EXAMPLES", "150"))  # of each property; the slow test has more drawn

hypothesis.configuration.set_hypothesis_home_dir(tempfile.gettempdir())  # else it makes .hypothesis here
settings.register_profile(
    "thaw",
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
settings.load_profile("thaw")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two pictures, a/1.png and a/b/2.png."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "a" / "b").mkdir(parents=True)
    for name in ("1.png", "b/2.png"):
        Image.new("RGB", (3, 3)).save(folder / "a" / name)
    return folder


def in_one_line(call, *arguments, **named):
    """The result of a call, or None where it answers with an InputError of one line."""
    try:
        return call(*arguments, **named)
    except InputError as error:
        assert str(error) and len(str(error).splitlines()) == 1, repr(str(error))
        return None


# ---------------------------------------------------------------- configs

NUMBERS = st.integers() | st.sampled_from([10**400, -(10**400), 2**31, 0, 1]) | st.floats()
VALUES = st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.sampled_from([(), (1,), [1]])
TRAINS = st.sampled_from(["head", "all", "norm", "bias", "top:2", "top:0", "above:x", "above:\n"])
STAGES = st.fixed_dictionaries(
    {"name": st.text(max_size=5)},
    optional={
        "train": TRAINS,
        "epochs": st.integers(1, 10**6),
        "learning_rate": st.floats(1e-9, 10),
        "schedule": st.sampled_from(["constant", "cosine", "one_cycle"]),
        "warmup": st.floats(0, 0.5),
        "backbone_rate": st.none() | st.floats(0.01, 1),
        "layer_decay": st.floats(0.1, 1),
        "patience": st.none() | st.integers(1, 100),
        "batch_norm": st.sampled_from(["frozen", "train"]),
        "keep": st.sampled_from(["best", "last"]),
    },
)
GOOD = {
    "data": st.text(max_size=12),
    "labels_per_class": st.none() | st.integers(1) | st.sampled_from(["all", "auto"]),
    "image_size": st.integers(16, 4096),
    "dropout": st.floats(0, 0.99),
    "augment": st.sampled_from(["none", "light", "medium", "strong"]),
    "flip": st.booleans(),
    "label_smoothing": st.floats(0, 0.99),
    "weight_decay": st.floats(0, 0.99),
    "baselines": st.booleans(),
    "seed": st.integers(0, 2**31 - 1),
    "checkpoint_minutes": st.none() | st.floats(0.1),
    "run_dir": st.text(max_size=12),
}
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def named(kind, values):
    """Dictionaries of some fields of a dataclass, each with one of the values."""
    return st.dictionaries(st.sampled_from(fields.names(kind)), values, max_size=4)


@given(named(Stage, VALUES) | STAGES)
def test_a_stage_is_made_or_refused(record):
    stage = in_one_line(lambda: Stage(**({"name": "x"} | record)))
    if stage:
        assert fields.from_dict(fields.to_dict(stage), Stage) == stage
        rates = (stage.learning_rate, stage.backbone_rate)  # None leaves them to the weights
        # An int may stand for a float, and must be one that can become it.
        assert all(math.isfinite(float(rate)) for rate in (*rates, stage.warmup) if rate is not None)


def configured(record, stages):
    """The Config with these fields and stages, where all of them can be made."""
    made = in_one_line(lambda: tuple(Stage(**stage) for stage in stages)) or Config.stages
    return in_one_line(lambda: fields.replace(Config(), **({"stages": made} | record)))


@given(named(Config, VALUES), st.lists(STAGES, max_size=3), st.fixed_dictionaries({}, optional=GOOD))
def test_a_config_is_made_or_refused_and_read_back(odd, stages, good):
    for record in (good, good | odd):
        made = configured(record, stages)
        if made:
            text = json.dumps(fields.to_dict(made))
            assert fields.from_dict(json.loads(text), Config) == made


@given(JSON | named(Config, JSON) | named(Config, st.lists(STAGES, max_size=2)))
def test_any_json_is_a_config_or_refused(record):
    in_one_line(fields.from_dict, record, Config)


@given(st.binary(max_size=40))
def test_any_file_is_a_config_or_refused(content):
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(content)
        file.flush()
        in_one_line(fields.load, file.name, Config)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"seed": ' + "1" * 5000 + "}", '{"a": 1', "\\x00"])
def test_json_that_python_does_not_take_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert in_one_line(fields.load, tmp_path / "config.json", Config) is None


def test_paths_that_no_system_takes_are_refused():
    for path in ("\0", "~nobody-of-this-name/config.json", "x" * 300, "\udcff", "\ud800"):
        assert in_one_line(fields.load, path, Config) is None
        assert in_one_line(sources.find, path) is None


def said_as_flags(made: Config) -> list[str]:
    """The command line that says every field of a Config."""
    said = []
    for name, value in fields.to_dict(made).items():
        places = [(f"--{name}", value)]
        if name == "stages":
            places = [(f"--stages.{i}.{key}", v) for i, stage in enumerate(value) for key, v in stage.items()]
        for flag, content in places:
            flag = flag.replace("_", "-")
            if isinstance(content, bool):
                said.append(flag if content else flag.replace("--", "--no-", 1))
            elif isinstance(content, list):
                said += [flag, *map(str, content)]
            else:
                said.append(f"{flag}={content}")
    return said


@settings(max_examples=max(10, EXAMPLES // 10))
@given(st.fixed_dictionaries({}, optional=GOOD), st.lists(STAGES, min_size=3, max_size=3))
def test_a_config_comes_back_from_the_command_line(good, stages):
    made = configured(good, stages)
    if made:
        assert flags.parse(Config, said_as_flags(made)) == made


@settings(max_examples=max(10, EXAMPLES // 10))
@given(
    st.lists(st.sampled_from(said_as_flags(Config())) | st.text(max_size=6) | st.just("--config"), max_size=4)
)
def test_any_command_line_is_a_config_or_refused(arguments):
    try:
        in_one_line(flags.parse, Config, arguments)
    except SystemExit as stop:
        assert not stop.code and {"-h", "--help"} & set(arguments)


# ---------------------------------------------------------------- manifests

CELLS = st.sampled_from(
    ["a/1.png", "a/b/2.png", "./a/1.png", "a", "", " ", "..", "/", "a/../../x", "x.png", "train", "val"]
    + ["test", "a\\1.png", '"', "'", ",", "\n", "\0", "1" * 5000, "²", "٣", "x" * 300, "\ufeff", "p,q", "NaN"]
) | st.text(max_size=5)
HEADERS = st.lists(st.sampled_from(["path", "label", "split", "group", "Path", "x", ""]), max_size=5)
SEPARATORS = st.sampled_from([",", ",", ",", ";", "\t", ", "])


@st.composite
def tables(draw):
    """The text of a CSV file, often with the right columns and sometimes with good rows."""
    separator = draw(SEPARATORS)
    header = draw(st.sampled_from([["path", "label"], ["path", "label", "split", "group"]]) | HEADERS)
    rows = draw(st.lists(st.lists(CELLS, min_size=len(header), max_size=len(header)), max_size=4))
    good = {"path": "a/1.png", "split": "train"}
    rows += [[good.get(name, "x") for name in header]] * draw(st.integers(0, 1))
    quoted = draw(st.booleans())
    lines = [header, *rows]
    if quoted:
        lines = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in lines]
    return "\n".join(separator.join(row) for row in lines)


@given(st.text(max_size=40) | tables())
def test_any_csv_file_is_a_source_or_refused(folder, text):
    path = folder / "list.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    before = sorted(folder.rglob("*"))
    found = in_one_line(sources.find, path)
    if found:
        assert set(found.examples["label"]) == set(found.classes) and (found.examples["path"] != "").all()
        for file in found.read():
            assert Path(file).is_relative_to(folder) and ".." not in Path(file).parts and os.path.isfile(file)
    assert sorted(folder.rglob("*")) == before and path.read_bytes() == text.encode("utf-8", "surrogatepass")


@given(st.text(max_size=12).filter(lambda text: not text.strip().startswith("tfds:")))
def test_any_name_of_data_is_a_source_or_refused(folder, name):
    in_one_line(sources.find, f"{folder}/{name}")
    in_one_line(sources.find, name if name.strip().startswith("x") else f"x{name}")


# ---------------------------------------------------------------- splits


@given(st.data(), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_splits_deal_every_row_and_tear_no_unit(data, count, seed):
    rows = st.lists(st.integers(0, 4), min_size=count, max_size=count)
    labels, groups, hashes = (np.array(data.draw(rows)) for _ in range(3))
    keys = [np.array([f"k{n}" if n else "" for n in column], dtype=object) for column in (groups, hashes)]
    fractions = data.draw(st.dictionaries(st.sampled_from(["val", "test"]), st.floats(0.01, 0.5), max_size=2))
    together = splits.units(*keys)
    dealt = splits.carve(labels, together, fractions, seed)
    assert len(dealt) == count and set(dealt) <= {"train", *fractions}
    assert all(len(set(dealt[together == unit])) == 1 for unit in together)
    for key in keys:
        assert all(len(set(together[key == name])) == 1 for name in set(key) - {""})
    # What stands alone in both keys is linked to nothing.
    alone = (keys[0] == "") & (keys[1] == "")
    assert len(set(together[alone])) == alone.sum() and not set(together[alone]) & set(together[~alone])
    np.testing.assert_array_equal(dealt, splits.carve(labels, together, fractions, seed))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_the_few_are_at_most_so_many_of_each_class_and_nested(labels, few, seed):
    chosen, more = (splits.few(labels, number, seed) for number in (few, few + 1))
    there, kept = np.bincount(labels, minlength=5), np.bincount(np.array(labels)[chosen], minlength=5)
    assert (kept == np.minimum(there, few)).all() and more[chosen].all()


# ---------------------------------------------------------------- pictures

BEGINNINGS = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"P6 "]
BEGINNINGS += [b"P1\n", b"RIFF\x20\0\0\0WEBPVP8 ", b"\0\0\0\x1cftypavif", b"\xff\x4f\xff\x51", b"Pf\n", b""]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(st.sampled_from(BEGINNINGS), st.binary(max_size=80))
def test_any_bytes_are_a_picture_or_named(beginning, rest):
    try:
        image, note = images.decode(beginning + rest)
        assert image.mode == "RGB" and np.asarray(image).shape == (*image.size[::-1], 3) and "\n" not in note
    except images.Unreadable as error:
        assert str(error) and len(str(error).splitlines()) == 1


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 70), st.sampled_from(square.RESIZES))
def test_any_picture_is_resized(width, height, size, how):
    white = square.resize(Image.new("RGB", (width, height), "white"), size, how)
    assert white.shape == (size, size, 3) and white.dtype == np.uint8
    if how != "pad":
        assert (white == 255).all()


@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 2**31),
    st.sampled_from(["PNG", "BMP", "TIFF", "PPM"]),
)
def test_equal_pixels_have_equal_digests_and_others_not(width, height, seed, form):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture, file = Image.fromarray(pixels), io.BytesIO()
    picture.save(file, form)
    image, note = images.decode(file.getvalue())
    np.testing.assert_array_equal(np.asarray(image), pixels)
    assert images.digest(image) == images.digest(picture) and note == ""
    pixels[seed % height, seed % width, seed % 3] ^= 1
    assert images.digest(Image.fromarray(pixels)) != images.digest(picture)


# ---------------------------------------------------------------- more of them


@pytest.mark.slow
def test_each_property_with_a_thousand_examples():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = os.environ | {"THAW_EXAMPLES": "1000"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
