"""Copy a template out of the repository into a project of its own.

`new` is `python -m runner new`. It runs cookiecutter on `templates/`, whose hooks call `check` and `fill`, so
plain `cookiecutter PATH --directory templates` gives the same project. The hooks run in whatever Python
cookiecutter was installed in: this module needs the standard library alone, and imports cookiecutter where it
is called.
"""

import ast
import importlib.metadata
import json
import keyword
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from runner.errors import InputError, suggest
from runner.networks import backbones
from runner.tables import backbones as of_tables
from runner.text_networks import decoders, encoders

REPOSITORY = Path(__file__).resolve().parent.parent
OWN_FOLDERS = ("runner", "datasets", "checkpoints", "runs", "templates", "tests")
# Python's own tests are installed as `test`, but not listed in sys.stdlib_module_names.
PYTHONS_TESTS = {"test"}
# Packages imported under another name than the requirements call them by.
IMPORTED_AS = {"scikit_learn": "sklearn", "pillow": "pil"}
NOT_COPIED = ("__pycache__", "*.pyc", ".*", "runs")
# The template's own requirements become the project's, and a copied-out project has no templates to copy.
NOT_IN_PACKAGE = ("requirements.txt",)
NOT_IN_RUNNER = ("new.py",)


def new(
    application: str,
    destination: str | Path,
    data: str = "",
    backbone: str = "",
    repository: Path = REPOSITORY,
    rank: str = "",
) -> Path:
    """Make a project of the template `application` at `destination` and return its absolute path.

    `data` and `backbone` become defaults of the new `config.py`; empty ones leave the template's. `rank`, the
    folder of a ranking, gives backbone, weights and size of pictures of its first source. Missing parent
    folders are made; an existing folder must be empty. Raises InputError, and leaves nothing behind, when it
    cannot be done.
    """
    try:
        from cookiecutter.exceptions import FailedHookException
        from cookiecutter.main import cookiecutter
    except ModuleNotFoundError as error:
        message = (
            f"No module '{error.name}' in {sys.executable}: run `pip install -r requirements.txt` first."
        )
        raise InputError(message) from error

    destination = Path(os.path.abspath(os.path.expanduser(destination)))
    first: dict[str, str | int] = first_of(rank) if rank else {}
    if first and backbone:
        raise InputError(f"--rank {rank} and --backbone both say where to start from; leave one out.")
    backbone = str(first.pop("backbone", backbone))
    check(destination.name, application, backbone, repository)
    data = resolve_data(data, Path.cwd(), repository)
    _check_place(destination, repository)
    missing_parents = [folder for folder in destination.parents if not folder.exists()]
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        # Made beside its place and then renamed: an interrupted copy never looks like a project.
        with tempfile.TemporaryDirectory(prefix=".thaw-", dir=destination.parent) as scratch:
            project = Path(
                cookiecutter(
                    str(repository / "templates"),
                    no_input=True,
                    extra_context={
                        "project_slug": destination.name,
                        "application": application,
                        "data": data,
                        "backbone": backbone,
                    },
                    output_dir=f"{scratch}/made",
                    default_config={"replay_dir": f"{scratch}/replay"},
                )
            )
            config = project / package_name(destination.name) / "config.py"
            text = config.read_text(encoding="utf-8")
            for field, value in first.items():
                if f"\n    {field}:" in text:
                    text = _set_default(text, field, json.dumps(value, ensure_ascii=False))
            config.write_text(text, encoding="utf-8", newline="\n")
            if destination.exists():
                for entry in project.iterdir():
                    shutil.move(entry, destination)
            else:
                project.rename(destination)
    except BaseException as error:
        for folder in missing_parents:
            if folder.exists():
                folder.rmdir()
        if isinstance(error, FailedHookException):
            message = f"The template '{application}' was not copied; the reason is printed above."
            raise InputError(message) from error
        if isinstance(error, OSError):
            message = f"Cannot write {destination}: {error}. Name a folder that you may write to."
            raise InputError(message) from error
        raise
    return destination


def first_of(rank: str) -> dict[str, str | int]:
    """The first source of a ranking as settings: backbone, weights (a path, absolute) and image_size.

    Raises InputError for a folder that is none of `python -m runner rank`.
    """
    path = Path(os.path.expanduser(rank)) / "rank.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        source, size = record["sources"][0], record["size"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"--rank {rank}: there is no rank.json of this version ({error}); give a folder that `rank` made."
        ) from error
    weights = os.path.expanduser(source["weights"])
    weights = os.path.abspath(weights) if os.path.exists(weights) else source["weights"]
    return {"backbone": source["backbone"], "weights": weights, "image_size": size}


def applications(repository: Path = REPOSITORY) -> tuple[str, ...]:
    """Return the names of the templates, in alphabetical order."""
    return tuple(sorted(path.parent.name for path in (repository / "templates").glob("*/config.py")))


def package_name(project: str) -> str:
    """Return the Python package's name in a project folder of this name: my-flowers holds my_flowers."""
    return project.replace("-", "_")


def check(project: str, application: str, backbone: str, repository: Path = REPOSITORY) -> None:
    """Raise InputError unless a project may have this name and there are such a template and backbone."""
    package = package_name(project)
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", package):
        usable = re.sub("[^A-Za-z0-9_-]+", "_", project).strip("_-").lstrip("0123456789_-")
        raise InputError(
            f"The folder name '{project}' cannot name a Python package: use letters, digits, '_' and '-', "
            + (f"a letter first, for example '{usable}'." if usable else "a letter first.")
        )
    is_keyword = keyword.iskeyword(package) or keyword.issoftkeyword(package)
    if is_keyword or package.lower() in _taken_names(repository):
        raise InputError(
            f"The folder name '{project}' would make a package '{package}', a name that Python, this project "
            f"or an installed library has already: choose another, for example 'my_{package}'."
        )
    if application not in applications(repository):
        raise InputError(
            f"There is no template '{application}'; there are: {', '.join(applications(repository))}."
            + suggest(application, applications(repository))
        )
    if backbone:
        _networks(application, repository).find(backbone)


def _networks(application: str, repository: Path) -> ModuleType:
    """The module that knows the backbones of a template, by the one that it has as its default."""
    config = (repository / "templates" / application / "config.py").read_text(encoding="utf-8")
    default = re.search(r'^    backbone: str = "([^"\n]*)"', config, flags=re.MULTILINE)
    if default and default[1] in of_tables.BACKBONES:
        return of_tables
    if default and default[1] in decoders.DECODERS:
        return decoders
    return encoders if default and default[1] in encoders.ENCODERS else backbones


def resolve_data(data: str, folder: str | Path, repository: Path = REPOSITORY) -> str:
    """Return what `data` means as a default: a path, absolute from `folder`, or a data set's name as it is.

    Raises InputError when it is neither a path that exists, nor in `datasets/`, nor written as `tfds:NAME`.
    """
    if not data:
        return ""
    if re.search(r"{[{%#]", data) or not data.isprintable():
        raise InputError(
            f"The data path {data!r} holds '{{{{', '{{%', '{{#' or a control character: rename the folder."
        )
    names = sorted(path.parent.name for path in (repository / "datasets").glob("*/*_dataset_builder.py"))
    if data.partition("/")[0] in names or data.startswith("tfds:"):
        return data
    path = os.path.abspath(Path(folder, os.path.expanduser(data)))
    if os.path.exists(path):
        return path
    raise InputError(
        f"There is no folder or file '{data}' (looked for {path}) and no data set of that name; give a path, "
        f"one of {', '.join(names)}, or a TensorFlow Datasets name as tfds:NAME." + suggest(data, names)
    )


def fill(project: Path, application: str, data: str, backbone: str, repository: Path = REPOSITORY) -> None:
    """Copy the template and what it needs of the runner, the data sets and the checkpoints into `project`.

    The template's files are taken as they are; only its package name becomes the project's, and the defaults
    in `config.py` for what `data` and `backbone` give are set (empty ones are left). Of the runner go along
    its flat modules and the folders that `wings` names, of the requirements those of this template.
    """
    template = repository / "templates" / application
    package = package_name(project.name)
    shutil.copytree(template, project / package, ignore=shutil.ignore_patterns(*NOT_COPIED, *NOT_IN_PACKAGE))
    (project / "runner").mkdir()
    for path in (repository / "runner").glob("[!.]*.*"):
        if path.name not in NOT_IN_RUNNER:
            shutil.copy(path, project / "runner" / path.name)
    for wing in wings(application, repository):
        target = project / "runner" / wing
        shutil.copytree(repository / "runner" / wing, target, ignore=shutil.ignore_patterns(*NOT_COPIED))
    shutil.copy(repository / "LICENSE", project / "LICENSE")
    requirements = requirements_of(application, repository)
    (project / "requirements.txt").write_text(requirements, encoding="utf-8", newline="\n")

    config = (template / "config.py").read_text(encoding="utf-8")
    defaults = re.findall(r'^    (\w+): [^=\n]+ = "([^"\n]*)"', config, flags=re.MULTILINE)
    # A data set and the checkpoint trained on it bear the same name: which is meant, the field says.
    checkpoints = {value for field, value in defaults if "weights" in field}
    # Of "NAME/PART" the folder is NAME.
    named = {value for field, value in defaults if "weights" not in field} | {data}
    datasets = {value.partition("/")[0] for value in named}
    _copy_named_folders(repository / "checkpoints", project / "checkpoints", checkpoints)
    _copy_named_folders(repository / "datasets", project / "datasets", datasets)

    edited = _with_defaults(config, data, backbone, repository, _networks(application, repository))
    (project / package / "config.py").write_text(edited, encoding="utf-8", newline="\n")
    for path in (project / package).rglob("*"):
        if path.suffix in (".py", ".ipynb", ".md", ".txt"):
            text = path.read_bytes()
            for written, meant in (("templates.", ""), ("templates/", ""), ("runs/", "runs/")):
                text = text.replace(f"{written}{application}".encode(), f"{meant}{package}".encode())
            path.write_bytes(text)


def wings(application: str, repository: Path = REPOSITORY) -> tuple[str, ...]:
    """Return the folders of `runner/` that a copy of the template needs, in alphabetical order.

    They are those that its modules and its notebook import, those that these import, and so on; imports
    inside functions count too. A command's wing goes along where nothing else would have to come with it:
    the copy's `python -m runner` has the commands that the template can use.
    """
    runner = repository / "runner"
    everything = _all_wings(repository)
    imports = {wing: _imported(runner.glob(f"{wing}/**/*.py"), everything) - {wing} for wing in everything}

    def with_imports(wanted: set[str]) -> set[str]:
        reached: set[str] = set()
        while wanted - reached:
            reached |= wanted
            wanted = set().union(*(imports[wing] for wing in reached))
        return reached

    template = repository / "templates" / application
    flat = [path for path in runner.glob("*.py") if path.name not in ("__main__.py", *NOT_IN_RUNNER)]
    code = [*flat, *template.rglob("*.py"), *template.glob("*.ipynb")]
    needed = with_imports(_imported(code, everything))
    of_commands = _imported([runner / "__main__.py"], everything)
    # Those that need least come first: one of them may be what another needs.
    for wing in sorted(of_commands, key=lambda wing: len(with_imports({wing}))):
        if with_imports({wing}) <= needed | {wing}:
            needed |= {wing}
    return tuple(sorted(needed))


def requirements_of(application: str, repository: Path = REPOSITORY) -> str:
    """Return the template's requirements as one text, with what FILE holds in the place of `-r FILE`."""

    def read(path: Path) -> str:
        parts = []
        for line in path.read_text(encoding="utf-8").splitlines():
            included = re.fullmatch(r"-r\s+(\S+)", line.strip())
            parts.append(read(path.parent / included[1]) if included else f"{line}\n")
        return "".join(parts)

    return read(repository / "templates" / application / "requirements.txt")


def _all_wings(repository: Path) -> set[str]:
    return {path.parent.name for path in (repository / "runner").glob("*/__init__.py")}


def _imported(paths: Iterable[Path], wings: set[str]) -> set[str]:
    """Return the wings that these modules and notebooks import anywhere."""
    found = set()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
            lines = "\n".join("".join(source) for source in cells).splitlines()
            # Jupyter's own commands are no Python.
            text = "\n".join("pass" if line.startswith(("%", "!")) else line for line in lines)
        for node in ast.walk(ast.parse(text, str(path))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("runner.")} & wings


def _taken_names(repository: Path) -> set[str]:
    """Return lower-case names that a new package must not take, or it would hide the module of that name."""
    lines = "".join(path.read_text(encoding="utf-8") for path in (repository / "requirements").glob("*.txt"))
    requirements = re.findall(r"^[\w-]+", lines, flags=re.MULTILINE)
    required = {name.lower().replace("-", "_") for name in requirements}
    required |= {IMPORTED_AS[name] for name in required & IMPORTED_AS.keys()}
    # Not importlib.util.find_spec: it would find a folder of that name in the working directory.
    installed = {name.lower() for name in importlib.metadata.packages_distributions()}
    pythons = {name.lower() for name in sys.stdlib_module_names} | PYTHONS_TESTS
    return required | installed | pythons | set(OWN_FOLDERS)


def _check_place(destination: Path, repository: Path) -> None:
    if os.path.lexists(destination) and not (destination.is_dir() and not any(destination.iterdir())):
        raise InputError(
            f"{destination} exists already and is not an empty folder: choose another or remove it."
        )
    for parent in destination.resolve().parents:
        if parent.is_file():
            raise InputError(f"{destination} cannot be made, for {parent} is a file: choose another place.")
        if parent.parent == repository and parent.name in OWN_FOLDERS:
            raise InputError(
                f"{destination} is inside this repository's {parent.name}/: choose another place."
            )


def _copy_named_folders(source: Path, target: Path, named: set[str]) -> None:
    """Copy the folders of `source` that are named, and beside them the modules that they share."""
    chosen = [path for path in sorted(source.glob("*")) if path.is_dir() and path.name in named]
    if not chosen:
        return
    target.mkdir()
    for path in source.glob("*.py"):
        if source.name == "datasets" and not path.name.startswith("test_"):
            shutil.copy(path, target / path.name)
    for path in chosen:
        ignored = shutil.ignore_patterns(*NOT_COPIED, "*_test.py", "test_*.py", "dummy_data")
        shutil.copytree(path, target / path.name, ignore=ignored)


def _with_defaults(
    config: str, data: str, backbone: str, repository: Path, networks: ModuleType = backbones
) -> str:
    """Return the text of `config.py` with other defaults for the data and the backbone, of `networks`."""
    if data:
        config = _set_default(config, "data", json.dumps(data, ensure_ascii=False))
    if backbone and networks is not backbones:
        # The weights of another network of texts have to be named: nothing brings them along.
        full_name = networks.find(backbone)[0]
        written = re.search(r'^    backbone: str = "([^"\n]*)"', config, flags=re.MULTILINE)
        config = _set_default(config, "backbone", json.dumps(full_name))
        if written is None or written[1] != full_name:
            config = _set_default(config, "weights", '"none"')
    elif backbone:
        backbone = backbones.canonical(backbone)
        config = _set_default(config, "backbone", json.dumps(backbone))
        weights = re.search(r'^    weights: str = "([^"\n]*)"', config, flags=re.MULTILINE)
        card = repository / "checkpoints" / (weights[1] if weights else "") / "card.json"
        if not card.is_file() or backbones.canonical(json.loads(card.read_text())["backbone"]) != backbone:
            config = _set_default(config, "weights", '"imagenet"')
            if "\n    image_size:" in config:
                # ImageNet weights know things as they look at the size they were trained at.
                family, _ = backbones.find(backbone)
                config = _set_default(config, "image_size", str(family.native_size))
    return config


def _set_default(config: str, field: str, value: str) -> str:
    line = re.compile(rf'^(    {field}: [^=\n]+ = )("[^"\n]*"|[\w.]+)', flags=re.MULTILINE)
    if len(line.findall(config)) != 1:
        raise InputError(
            f"The template's config.py should have one line '    {field}: ... = ...' to set, and has "
            f"{len(line.findall(config))}: copy it out without this choice and edit the file."
        )
    return line.sub(lambda match: match[1] + value, config)
