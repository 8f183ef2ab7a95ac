"""Copying a template out: every way gives the same project, it stands alone, a mistake leaves nothing."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runner import new
from runner.errors import InputError

REPOSITORY = Path(__file__).resolve().parent.parent
APPLICATION = "image_classification"
COPIED = ("runner", "templates", "datasets", "checkpoints", "requirements")


def files(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder by its relative path, leaving out what running it creates."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def cookiecutter(template, *answers, folder, home, environment=None):
    """Run cookiecutter as a person would, started in `folder`; its settings and clones go to `home`."""
    command = [sys.executable, "-m", "cookiecutter", "--no-input", str(template), *answers]
    variables = {**os.environ, "HOME": str(home), **(environment or {})}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `photos/` (an image folder of two easy classes) and `home/`."""
    place = tmp_path_factory.mktemp("place")
    (place / "home").mkdir()
    random = np.random.default_rng(0)
    for name, colour in (("daisy", (230, 220, 120)), ("rose", (180, 40, 70))):
        (place / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.normal(colour, 20, (48, 64, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(place / "photos" / name / f"{number}.png")
    return place


@pytest.fixture(scope="module")
def repository(place):
    """What copying out reads, in a folder of its own."""
    copy = place / "repository"
    for name in COPIED:
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "LICENSE", copy / "LICENSE")
    return copy


@pytest.fixture
def copy_of_repository(repository, tmp_path):
    """The same for one test, which may change it."""
    return shutil.copytree(repository, tmp_path / "repository")


@pytest.fixture(scope="module")
def project(place, repository):
    """The template copied out by `runner new`, with photos for data."""
    return new.new(
        APPLICATION, place / "new" / "my_flowers", data=str(place / "photos"), repository=repository
    )


def imported_wings(files, repository) -> set[str]:
    """The folders of runner/ that files import, and those that these import; told from the text alone."""
    runner, found, unread = repository / "runner", set(), list(files)
    line = re.compile(r'^[ "]*(?:from|import) runner(?:\.(\w+)| import \(?([\w, \n]+))', flags=re.MULTILINE)
    while unread:
        text = unread.pop().read_text(encoding="utf-8")
        names = {name for match in line.finditer(text) for name in re.findall(r"\w+", match[1] or match[2])}
        new_ones = {name for name in names - found if (runner / name).is_dir()}
        unread += [path for name in new_ones for path in (runner / name).rglob("*.py")]
        found |= new_ones
    return found


def wings_of_a_copy(application, repository) -> set[str]:
    """What the template imports, and the wings of commands that need nothing else."""
    template, runner = repository / "templates" / application, repository / "runner"
    needed = imported_wings([*template.glob("*.py"), *template.glob("*.ipynb")], repository)
    commands = re.findall(r"^ +from runner\.(\w+) import", (runner / "__main__.py").read_text(), re.MULTILINE)
    needs = {name: imported_wings((runner / name).glob("*.py"), repository) for name in commands}
    return needed | {name for name in commands if needs[name] <= needed | {name}}


@pytest.mark.parametrize("application", new.applications())
def test_the_wings_are_those_that_the_template_imports(application):
    wings = new.wings(application)
    assert set(wings) == wings_of_a_copy(application, REPOSITORY)
    texts = application.startswith("text_") or application in ("token_classification", "translation")
    kind = "text" if texts else "table" if application in ("tabular", "treatment_effects") else "picture"
    assert [one for one in ("picture", "text", "table") if f"{one}_runs" in wings] == [kind]
    assert ("tables" in wings) == (kind == "table")
    assert ("pictures" in wings) == (kind == "picture") and ("text" in wings) == (kind == "text")


def test_the_project_has_exactly_these_files(project, repository):
    runner = {f"runner/{path.name}" for path in (repository / "runner").glob("*.*")} - {"runner/new.py"}
    for wing in wings_of_a_copy(APPLICATION, repository):
        runner |= {f"runner/{wing}/{name}" for name in files(repository / "runner" / wing)}
    modules = files(repository / "templates" / APPLICATION).keys() - {"requirements.txt"}
    assert {"config.py", "train.py", "test_template.py", "README.md", "explore.ipynb"} < modules
    builder = ("__init__.py", "digits_in_photos_dataset_builder.py")
    dataset = (*builder, "CITATIONS.bib", "README.md", "TAGS.txt")
    assert set(files(project)) == {
        ".gitignore",
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "requirements.txt",
        "checkpoints/letters_in_photos/README.md",
        "checkpoints/letters_in_photos/backbone.weights.h5",
        "checkpoints/letters_in_photos/card.json",
        "datasets/photos.py",
        *(f"datasets/digits_in_photos/{name}" for name in dataset),
        *(f"my_flowers/{name}" for name in modules),
        *runner,
    }


@pytest.fixture
def rows(copy_of_repository):
    """A repository with one more template, `rows`, that has to do with no pictures."""
    template = copy_of_repository / "templates" / "rows"
    template.mkdir()
    (template / "__init__.py").touch()
    (template / "config.py").write_text('RUN_DIR = "runs/rows"\n')
    (template / "requirements.txt").write_text("numpy\n-r ../../requirements/copying.txt\n")
    (template / "train.py").write_text(
        "from templates.rows import config\n\n\n"
        "def main():\n    from runner.scores import intervals\n\n    return config, intervals\n"
    )
    (template / "explore.ipynb").write_text(
        json.dumps({"cells": [{"cell_type": "code", "source": ["%matplotlib inline\n", "import json"]}]})
    )
    menu = copy_of_repository / "templates" / "cookiecutter.json"
    menu.write_text(menu.read_text().replace('"object_detection",', '"object_detection", "rows",'))
    return copy_of_repository


def test_a_template_without_pictures_gets_nothing_of_pictures(rows, tmp_path):
    made = new.new("rows", tmp_path / "prices", repository=rows)
    wings = {path.name for path in (made / "runner").iterdir() if path.is_dir()}
    assert wings == wings_of_a_copy("rows", rows)
    assert "scores" in wings and not wings & {"pictures", "picture_runs", "training"}
    copying = (REPOSITORY / "requirements" / "copying.txt").read_text()
    assert (made / "requirements.txt").read_text() == f"numpy\n{copying}"
    shown = run_in(made, "-m", "runner", "--help").stdout
    assert "doctor" in shown and "backbones" in shown
    assert not re.search(r"^    (new|predict|shift|export) ", shown, flags=re.MULTILINE)
    result = run_in(made, "-m", "runner", "predict", "here", "there")
    assert result.returncode == 2 and "There is no command 'predict'" in result.stderr
    assert run_in(made, "-c", "from prices import train; train.main()").returncode == 0


def test_code_is_copied_as_it_is_but_for_the_package_name(project, repository):
    for path in (repository / "templates" / APPLICATION).glob("*.*"):
        if path.name not in ("config.py", "requirements.txt"):
            expected = path.read_bytes()
            for written, meant in ((b"templates.", b""), (b"templates/", b""), (b"runs/", b"runs/")):
                expected = expected.replace(written + APPLICATION.encode(), meant + b"my_flowers")
            assert (project / "my_flowers" / path.name).read_bytes() == expected
    for folder in ("runner", "datasets", "checkpoints"):
        for name, content in files(project / folder).items():
            assert content == (repository / folder / name).read_bytes()
    parts = [repository / "requirements" / f"{name}.txt" for name in ("core", "pictures")]
    assert (project / "requirements.txt").read_bytes() == b"".join(path.read_bytes() for path in parts)
    assert (project / "LICENSE").read_bytes() == (repository / "LICENSE").read_bytes()


def test_nothing_is_left_of_the_repository_or_of_jinja(project, repository):
    for name, content in files(project).items():
        assert str(repository).encode() not in content and str(REPOSITORY).encode() not in content, name
        if name.startswith("my_flowers/") and name.endswith((".py", ".ipynb")):
            assert b"templates" not in content, name
        if "/" not in name or name.startswith("my_flowers/README"):
            assert b"{{" not in content and b"{%" not in content and b"cookiecutter." not in content, name
    assert not list(project.parent.glob(".thaw-*"))


def test_the_menu_of_cookiecutter_lists_the_templates():
    answers = json.loads((REPOSITORY / "templates" / "cookiecutter.json").read_text())
    assert sorted(answers["application"]) == list(new.applications())
    assert answers["application"][0] == APPLICATION  # the default


def git(*arguments, folder):
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize(
    "way", ["absolute", "relative", "trailing slash", "the folder itself", "git URL", "no shell"]
)
def test_plain_cookiecutter_gives_the_same_project(way, place, project, copy_of_repository, tmp_path):
    folder = tmp_path / "elsewhere" / "deeper"
    folder.mkdir(parents=True)
    (folder.parent / "photos").symlink_to(place / "photos")
    relative = os.path.relpath(copy_of_repository, folder)
    template = {
        "absolute": copy_of_repository,
        "trailing slash": f"{relative}/",
        "the folder itself": f"{relative}/templates",
        "git URL": f"git+file://{copy_of_repository}",
    }.get(way, relative)
    directory = () if way == "the folder itself" else ("--directory", "templates")
    if way == "git URL":
        if shutil.which("git") is None:
            pytest.skip("git is not installed")
        git("init", "-q", folder=copy_of_repository)
        # Forced, for a person's own settings may ignore some of the files.
        git("add", "--force", ".", folder=copy_of_repository)
        git("commit", "-q", "-m", "all", folder=copy_of_repository)
    # A shell keeps PWD up to date; whatever else starts cookiecutter may leave it pointing anywhere.
    environment = {"PWD": "/" if way == "no shell" else str(folder)}
    result = cookiecutter(
        template, *directory, "project_slug=my_flowers", f"application={APPLICATION}", "data=../photos",
        folder=folder, home=tmp_path, environment=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    made, expected = files(folder / "my_flowers"), files(project)
    here, there = (json.dumps(str(path)).encode() for path in (folder.parent / "photos", place / "photos"))
    assert here in made["my_flowers/config.py"]
    made["my_flowers/config.py"] = made["my_flowers/config.py"].replace(here, there)
    assert made == expected


def config_of(project: Path) -> str:
    return (project / project.name.replace("-", "_") / "config.py").read_text()


def test_without_choices_the_configuration_is_the_templates(tmp_path):
    made = new.new(APPLICATION, tmp_path / "plain")
    original = (REPOSITORY / "templates" / APPLICATION / "config.py").read_text()
    assert config_of(made) == original.replace(f"runs/{APPLICATION}", "runs/plain")


def test_choices_become_the_defaults(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    made = new.new(APPLICATION, tmp_path / "my-flowers", data="photos", backbone="mobilenetv2-0.350")
    lines = config_of(made).splitlines()
    assert f'    data: str = "{place}/photos"' in lines
    assert '    backbone: str = "MobileNetV2-0.35"' in lines
    assert '    weights: str = "imagenet"' in lines
    assert (made / "my_flowers").is_dir() and "python -m my_flowers.train" in (made / "README.md").read_text()
    original = (REPOSITORY / "templates" / APPLICATION / "config.py").read_text().splitlines()
    changed = [line for line in lines if line not in original]
    assert len(changed) == 4  # these three, and the image size


def config_with(copy_of_repository, *choices) -> str:
    text = (copy_of_repository / "templates" / APPLICATION / "config.py").read_text()
    return new._with_defaults(text, *choices, copy_of_repository)


@pytest.mark.parametrize(
    ("application", "backbone", "weights"),
    [
        ("text_classification", "minilm-l6", "minilm"),
        ("token_classification", "BERT-tiny", "none"),
        ("text_generation", "gpt-TINY", "docstrings_gpt"),
        ("text_generation", "GPT-2", "none"),
    ],
)
def test_a_copy_for_texts_gets_a_network_for_texts(tmp_path, application, backbone, weights):
    made = new.new(application, tmp_path / "mine", backbone=backbone)
    lines = (made / "mine" / "config.py").read_text().splitlines()
    (named,) = [line for line in lines if line.startswith("    backbone: str")]
    assert named.split('"')[1].lower() == backbone.lower() and f'    weights: str = "{weights}"' in lines
    assert (made / "checkpoints" / "docstrings_gpt").is_dir() == (application == "text_generation")
    with pytest.raises(InputError, match="nknown"):
        new.new(application, tmp_path / "other", backbone="ResNet50")


def test_a_copy_begins_with_the_first_source_of_a_ranking(tmp_path, monkeypatch):
    """Its weights by their full path, where they are a file, and the size of pictures that was ranked at."""
    (tmp_path / "net.weights.h5").touch()
    rank = tmp_path / "rank"
    rank.mkdir()
    sources = [{"backbone": "MobileNetV2-0.35", "weights": "net.weights.h5"}, {"backbone": "VGG16"}]
    (rank / "rank.json").write_text(json.dumps({"sources": sources, "size": 96}))
    monkeypatch.chdir(tmp_path)
    made = new.new(APPLICATION, tmp_path / "mine", rank="rank")
    config = (made / "mine/config.py").read_text(encoding="utf-8")
    assert '    backbone: str = "MobileNetV2-0.35"\n' in config and "    image_size: int = 96\n" in config
    assert f"    weights: str = {json.dumps(str(tmp_path / 'net.weights.h5'))}\n" in config
    for given, expected in (
        ({"rank": "rank", "backbone": "VGG16"}, "leave one out"),
        ({"rank": "nowhere"}, "there is no rank.json"),
        ({"rank": "rank", "application": "text_classification"}, "MobileNetV2-0.35"),
    ):
        with pytest.raises(InputError, match=expected):
            new.new(**{"application": APPLICATION, "destination": tmp_path / "other"} | given)
    assert not (tmp_path / "other").exists()


def test_the_checkpoints_own_backbone_keeps_the_checkpoint(copy_of_repository):
    card = copy_of_repository / "checkpoints" / "letters_in_photos" / "card.json"
    card.write_text(json.dumps({"backbone": "MobileNet-0.25"}))
    assert 'weights: str = "letters_in_photos"' in config_with(copy_of_repository, "", "mobilenet-0.25")
    assert 'weights: str = "imagenet"' in config_with(copy_of_repository, "", "MobileNet-0.5")


def test_with_imagenet_weights_images_get_the_backbones_native_size(copy_of_repository):
    assert "image_size: int = 299" in config_with(copy_of_repository, "", "InceptionV3")
    assert "image_size: int = 224" in config_with(copy_of_repository, "", "ResNet50")
    assert "image_size: int = 64" in config_with(copy_of_repository, "/photos", "")


def test_paths_with_spaces_quotes_and_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    photos = tmp_path / "my \"best\" 'photos' é & <co>"
    photos.mkdir()
    made = new.new(APPLICATION, "~/flowers/", data=f"~/{photos.name}/")
    assert made == tmp_path / "flowers"
    (line,) = [line for line in config_of(made).splitlines() if line.startswith("    data: str")]
    assert ast.literal_eval(line.partition(" = ")[2]) == str(photos)


def test_another_data_set_of_the_repository_goes_along(tmp_path):
    made = new.new(APPLICATION, tmp_path / "letters", data="letters_in_photos")
    assert 'data: str = "letters_in_photos"' in config_of(made)
    assert {path.name for path in (made / "datasets").iterdir()} == {
        "digits_in_photos", "letters_in_photos", "photos.py"
    }  # fmt: skip
    assert 'data: str = "tfds:mnist"' in config_of(new.new(APPLICATION, tmp_path / "mine", data="tfds:mnist"))


@pytest.mark.parametrize(
    "name",
    "2flowers|my flowers|my.flowers|blümen|-x|_x|{{x}}|class|match|email|test|Keras|keras-cv|sklearn|PIL|"
    "numpy|pytest|runner|datasets|checkpoints|runs".split("|"),
)
def test_names_that_cannot_name_a_package_are_refused(name, tmp_path):
    with pytest.raises(InputError, match="folder name") as error:
        new.new(APPLICATION, tmp_path / name)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_filled_and_any_other_is_left_alone(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    before = empty.stat().st_ino
    assert (new.new(APPLICATION, empty) / "runner" / "errors.py").is_file()
    assert empty.stat().st_ino == before

    for taken in (tmp_path / "taken", tmp_path / "taken_hidden"):
        taken.mkdir()
        (taken / ".hidden").write_text("mine")
    (tmp_path / "a_file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("taken", "taken_hidden", "a_file", "dangling"):
        with pytest.raises(InputError, match="exists already"):
            new.new(APPLICATION, tmp_path / name)
    with pytest.raises(InputError, match="is a file"):
        new.new(APPLICATION, tmp_path / "a_file" / "project")
    assert files(tmp_path / "taken") == {".hidden": b"mine"}
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a_file", "dangling", "empty", "taken", "taken_hidden"}


def test_inside_the_repositorys_own_folders_it_is_refused(copy_of_repository):
    before = files(copy_of_repository)
    with pytest.raises(InputError, match="inside this repository's templates/:"):
        new.new(APPLICATION, copy_of_repository / "templates" / "mine", repository=copy_of_repository)
    assert files(copy_of_repository) == before


def test_data_that_is_not_there_is_refused_with_its_full_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"looked for {tmp_path}/photos") as error:
        new.new(APPLICATION, tmp_path / "mine", data="photos")
    assert "digits_in_photos" in str(error.value) and "tfds:NAME" in str(error.value)
    with pytest.raises(InputError, match="Did you mean 'digits_in_photos'"):
        new.new(APPLICATION, tmp_path / "mine", data="digit_in_photos")
    with pytest.raises(InputError, match="rename the folder"):
        new.new(APPLICATION, tmp_path / "mine", data="{{ 1 }}")
    assert not list(tmp_path.iterdir())


def test_a_failing_copy_leaves_nothing(copy_of_repository, tmp_path, capfd):
    config = copy_of_repository / "templates" / APPLICATION / "config.py"
    config.write_text(config.read_text().replace("    backbone: str = ", "    backbone: str="))
    target = tmp_path / "missing" / "parents" / "mine"
    with pytest.raises(InputError, match="printed above"):
        new.new(APPLICATION, target, backbone="ResNet50", repository=copy_of_repository)
    assert "should have one line '    backbone: ... = ...' to set, and has 0" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_without_cookiecutter_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cookiecutter", None)
    monkeypatch.delitem(sys.modules, "cookiecutter.main", raising=False)
    monkeypatch.delitem(sys.modules, "cookiecutter.exceptions", raising=False)
    with pytest.raises(InputError, match="pip install -r requirements.txt"):
        new.new(APPLICATION, tmp_path / "mine")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("answer", ["project_slug=2nd", "backbone=ResNet51", "data=nowhere"])
def test_cookiecutter_refuses_the_same_answers_and_leaves_nothing(answer, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    result = cookiecutter(REPOSITORY, "--directory", "templates", answer, folder=here, home=tmp_path)
    assert result.returncode != 0
    assert answer.partition("=")[2] in result.stderr.splitlines()[0]
    assert not list(here.iterdir())


def run_in(project: Path, *arguments):
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=project, env=variables, capture_output=True, text=True, timeout=600
    )


def test_the_project_trains_on_its_photos(project):
    """With the checkpoint that came along; the few settings below only make it short."""
    short = [f"--stages.{stage}.epochs=1" for stage in range(3)]
    result = run_in(project, "-m", "my_flowers.train", *short, "--no-baselines", "--run-dir", "runs/short")
    assert result.returncode == 0, result.stderr
    recorded = json.loads((project / "runs" / "short" / "config.json").read_text())
    assert recorded["data"] == str(project.parents[1] / "photos")
    assert recorded["weights"] == "letters_in_photos"
    assert json.loads((project / "runs" / "short" / "metrics.json").read_text())["test"]["examples"] > 0
    assert (project / "runs" / "short" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_the_project_is_tuned_by_its_own_space(project):
    short = [f"--stages.{stage}.epochs=1" for stage in range(3)]
    result = run_in(
        project, "-m", "runner", "tune", "my_flowers", "--trials=2", "--no-prune", "--study=mine", *short
    )
    assert result.returncode == 0, result.stderr
    study = project / "runs" / "my_flowers-tuning" / "mine"
    assert len(list((study / "tested").glob("*/report.html"))) == 2 and (study / "tuning.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("application", new.applications())
def test_a_copys_own_tests_pass(application, tmp_path):
    made = new.new(application, tmp_path / "mine")
    result = run_in(made, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert result.returncode == 0, result.stdout[-3000:]


@pytest.mark.slow
def test_the_short_ones_of_a_copys_own_tests_pass(tmp_path):
    """All but the one that trains from end to end; the fast set trains a copy above."""
    made = new.new("object_detection", tmp_path / "mine")
    trains = "mine/test_template.py::test_a_run_leaves_everything_it_promises"
    result = run_in(made, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--deselect={trains}")
    assert result.returncode == 0, result.stdout[-3000:]


def test_the_projects_runner_has_its_commands(project):
    result = run_in(project, "-m", "runner", "--help")
    assert "doctor" in result.stdout and "templates" not in result.stdout and "\n    new" not in result.stdout
