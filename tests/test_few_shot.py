"""Few-shot learning beside its template: its letters, finished runs on other classes, Omniglot."""

import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runner.data import builders
from runner.errors import InputError
from runner.runs import compare, evaluate, pairing
from templates.few_shot import omniglot, train
from templates.few_shot.config import Config
from templates.few_shot.test_template import draw, small_config

DATASETS = Path(__file__).resolve().parent.parent / "datasets"


def test_few_letters_are_the_first_of_the_letters():
    made = builders._local(DATASETS / "few_letters")
    module = sys.modules[made.__module__]
    builder = object.__new__(made)
    for split in module.SPLITS:
        few = list(builder._generate_examples(split, 30))
        (letters,) = module.photos.letters(split, 30)
        np.testing.assert_array_equal([one["label"] for _, one in few], letters.labels)
        np.testing.assert_array_equal(np.stack([one["image"] for _, one in few]), letters.images)
        assert module.SPLITS[split] <= module.photos.LETTER_SPLITS[split]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of the same episodes, and one of others."""
    place = tmp_path_factory.mktemp("few_shot")
    data = draw(place / "pictures")
    changes = [
        {"methods": ("pixels", "centred")},
        {"methods": ("cosine",)},
        {"methods": ("cosine",), "queries": 2},
    ]
    return [
        train.main(small_config(place, data, run_dir=str(place / f"run{number}"), **change))
        for number, change in enumerate(changes)
    ]


def test_a_finished_run_is_judged_on_classes_it_never_heard_of(runs, tmp_path):
    data = draw(tmp_path / "others", ("black", "white", "grey"), start=5)
    (data / "black").rename(data / "coal")
    found = evaluate.run(train, Config, runs[0], str(data), tmp_path / "out")
    assert found.metrics["accuracy"] > 0.5 and found.score == "accuracy"
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["classes"] == ["coal", "grey", "white"]
    with pytest.raises(InputError, match="2 test classes and ways=2|pictures"):
        evaluate.run(train, Config, runs[0], str(draw(tmp_path / "few", ("red", "pink"), count=2)))


def test_runs_are_compared_by_episode_where_these_are_the_same(runs):
    same, other = (pairing.of_runs(runs[0], one, "accuracy") for one in runs[1:])
    assert same.difference.examples == 20 and "episode" in same.number
    assert "episodes are not the same" in other
    assert compare.run(runs[:2], runs[0].parent / "compared").is_file()


# ---------------------------------------------------------------- Omniglot


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((12, 12), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_characters_of_several_zip_files_become_class_folders_once(tmp_path):
    for number, alphabets in enumerate((("Greek", "Latin"), ("Latin", "Tagalog"))):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as archive:
            for alphabet in alphabets:
                for drawing in range(3):
                    archive.writestr(f"set{number}/{alphabet}/character01/0001_{drawing}.png", png(drawing))
    count = omniglot.unpack([tmp_path / "0.zip", tmp_path / "1.zip"], tmp_path / "out")
    assert count == 3 and len(list((tmp_path / "out" / "Latin_character01").iterdir())) == 3
    with pytest.raises(InputError, match="exists"):
        omniglot.unpack([tmp_path / "0.zip"], tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("a/../../b/c.png", png(0))
    with pytest.raises(InputError, match="no drawings"):
        omniglot.unpack([tmp_path / "bad.zip"], tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_one_shot_runs_say_which_drawing_each_query_belongs_to(tmp_path):
    with zipfile.ZipFile(tmp_path / "runs.zip", "w") as archive:
        pairs = [("item01", "class02"), ("item02", "class01")]
        lines = "".join(f"run01/test/{item}.png run01/training/{own}.png\n" for item, own in pairs)
        archive.writestr("run01/class_labels.txt", lines)
        for (item, own), value in zip(pairs, (200, 50), strict=True):
            archive.writestr(f"run01/test/{item}.png", png(value))
            archive.writestr(f"run01/training/{own}.png", png(value))
    ((support, queries, labels),) = omniglot.one_shot_runs(tmp_path / "runs.zip", 8)
    assert labels.tolist() == [1, 0] and support.shape == queries.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(support[labels], queries)
    with pytest.raises(InputError, match="zip"):
        next(omniglot.one_shot_runs(tmp_path / "none.zip", 8))
