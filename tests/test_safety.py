"""Nothing in the code runs what a file holds, and files made to run something don't."""

import ast
import json
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from runner.errors import InputError
from runner.networks import backbones
from runner.pictures import sources
from runner.training import checkpoint

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("runner", "templates", "datasets", "checkpoints", "notebooks", "benchmarks", "tests")

# Modules that unpickle or run text, and calls that do so or leave a folder.
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
CALLS = {
    "eval": "runs text",
    "exec": "runs text",
    "__import__": "imports a name made up while it runs",
    "os.system": "runs a line of shell",
    "os.popen": "runs a line of shell",
    "exec_module": "runs a file",
    "run_path": "runs a file",
    "extract": "writes where an archive says",
    "extractall": "writes where an archive says",
    "unpack_archive": "writes where an archive says",
    "tempfile.mktemp": "names a file that another process can make first",
    "enable_unsafe_deserialization": "lets a model file run code",
    "read_pickle": "unpickles",
    "unsafe_load": "makes any object",
    "yaml.load": "makes any object",
    "yaml.load_all": "makes any object",
    "torch.load": "makes any object",
}
KEYWORDS = {"safe_mode": False, "allow_pickle": True, "shell": True, "verify": False, "weights_only": False}

# A dataset builder is code of this repository or of the copy. It is run by its path, since people have a
# package that is called datasets too.
ALLOWED = {
    ("runner/data/builders.py", "exec_module"),
    ("benchmarks/made.py", "exec_module"),
    ("checkpoints/train.py", "exec_module"),
    ("checkpoints/docstrings.py", "exec_module"),
    ("datasets/digits_in_photos/digits_in_photos_dataset_builder.py", "exec_module"),
    ("datasets/digits_plain/digits_plain_dataset_builder.py", "exec_module"),
    ("datasets/few_letters/few_letters_dataset_builder.py", "exec_module"),
    ("datasets/scenes/drawing.py", "exec_module"),
    ("datasets/letters_in_photos/letters_in_photos_dataset_builder.py", "exec_module"),
    ("tests/test_datasets.py", "exec_module"),
    ("tests/pictures/test_gradcam.py", "exec_module"),
    ("tests/test_scenes.py", "exec_module"),
    # What the pages say is run.
    ("tests/test_docs_blocks.py", "exec"),
    # Here, to see that what is planted would go off.
    ("tests/test_safety.py", "safe_mode=False"),
    ("tests/test_safety.py", "allow_pickle=True"),
}


def code_of(path: Path) -> str:
    """The Python in a file; a notebook's lines of shell and magic are left out."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    lines = [line for cell in cells for line in "".join(cell).splitlines()]
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def unsafe(code: str) -> list[tuple[int, str, str]]:
    """Where code does something on the lists: (line, name, why)."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            imported = [name for alias in node.names for name in (alias.name, f"{node.module}.{alias.name}")]
            found += [(node.lineno, name, CALLS[name]) for name in imported if name in CALLS]
        else:
            names = []
        found += [(node.lineno, name, "unpickles") for name in names if name.split(".")[0] in MODULES]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        method = getattr(node.func, "attr", "")
        if method in ("eval", "exec", "__import__"):  # model.eval() of another library
            method = ""
        safe = method == "extractall" and any(keyword.arg == "filter" for keyword in node.keywords)
        for called in {name, method} & set(CALLS):
            found += [] if safe else [(node.lineno, called, CALLS[called])]
        for keyword in node.keywords:
            value = getattr(keyword.value, "value", None)
            if keyword.arg in KEYWORDS and value is KEYWORDS[keyword.arg]:
                found.append((node.lineno, f"{keyword.arg}={value}", "switches a protection off"))
    return found


def test_the_code_does_nothing_on_the_lists():
    everything = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    files = [path for path in everything if path.suffix in (".py", ".ipynb")]
    files = [path for path in files if "{{" not in str(path) and ".ipynb_checkpoints" not in path.parts]
    assert len(files) > 50
    used, wrong = set(), []
    for path in files:
        place = path.relative_to(ROOT).as_posix()
        for line, name, why in unsafe(code_of(path)):
            if (place, name) in ALLOWED:
                used.add((place, name))
            else:
                wrong.append(f"{place}:{line}: {name} {why}")
    assert not wrong
    assert used == ALLOWED, "an exception that nothing needs any more"


def test_the_search_finds():
    for code in (
        "import pickle",
        "from joblib import load",
        "import dill as d",
        "yaml.load(text)",
        "torch.load('x.pt')",
        "eval('1')",
        "np.load(path, allow_pickle=True)",
        "keras.models.load_model(path, safe_mode=False)",
        "subprocess.run(line, shell=True)",
        "requests.get(url, verify=False)",
        "tarfile.open(path).extractall(folder)",
        "os.system(line)",
        "from os import system",
        "keras.config.enable_unsafe_deserialization()",
        "pandas.read_pickle(path)",
    ):
        assert unsafe(code), code


def test_the_search_leaves_alone_what_is_safe():
    for code in (
        "yaml.safe_load(text)",
        "archive.extractall(folder, filter='data')",
        "np.load(path, allow_pickle=False)",
        "keras.models.load_model(path)",
        "platform.system()",
        "subprocess.run([program, argument])",
    ):
        assert not unsafe(code), code


# ---------------------------------------------------------------- files that would run something


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def trace(tmp_path, monkeypatch):
    """The file that what is planted makes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "trace"


def planted_model(folder: Path, trace: Path) -> Path:
    """A .keras file with MobileNet-0.25 and a Lambda layer that makes the file `trace` when it is rebuilt."""
    backbone = backbones.build("MobileNet-0.25", 32, "none")
    act = keras.layers.Lambda(lambda x: (open("trace", "w").close(), x)[1])
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(act(backbone.output)))
    path = folder / "model.keras"
    keras.Model(backbone.input, outputs).save(path)
    trace.unlink()  # the layer was called here too
    return path


def with_class(path: Path, module: str, name: str) -> Path:
    """The same .keras file, whose Lambda layer is made to be any class or function of any module."""
    changed = path.with_name("changed.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for item in old.namelist():
            content = old.read(item)
            if item == "config.json":
                record = json.loads(content)
                layer = next(one for one in record["config"]["layers"] if one["class_name"] == "Lambda")
                layer |= {"module": module, "class_name": name, "registered_name": name}
                content = json.dumps(record)
            new.writestr(item, content)
    return changed


def test_a_model_file_given_as_weights_runs_nothing(tmp_path, trace):
    path = planted_model(tmp_path, trace)
    keras.models.load_model(path, safe_mode=False)
    assert trace.exists(), "the planted layer does nothing, so this test shows nothing"
    trace.unlink()

    # Only numbers are read from the file; what its config.json describes is never built.
    loaded = backbones.build("MobileNet-0.25", 32, path)
    assert "lambda" not in " ".join(layer.name for layer in loaded.layers)
    backbones.build("MobileNet-0.25", 32, with_class(path, "antigravity", "fly"))
    with pytest.raises(InputError) as refusal:
        backbones.build("MobileNetV2-0.35", 32, path)
    assert "does not hold the weights" in str(refusal.value) and "\n" not in str(refusal.value)
    assert not trace.exists() and "antigravity" not in sys.modules


def test_a_model_file_that_is_loaded_whole_runs_nothing(tmp_path, trace):
    path = planted_model(tmp_path, trace)
    with pytest.raises(Exception, match="[Ll]ambda"):
        keras.models.load_model(path, compile=False)  # as the code does it: without safe_mode=False
    assert not trace.exists()


def test_a_checkpoint_with_pickled_objects_is_refused(tmp_path, trace):
    array = np.empty(1, dtype=object)
    array[0] = Planted(trace)
    file = tmp_path / "epoch-00001-step-0000000.npz"
    np.savez(file, record=np.array(json.dumps({"version": checkpoint.VERSION})), variable_0=array)
    with pytest.raises(InputError, match="can be read whole"):
        checkpoint.read(tmp_path)
    assert not trace.exists()
    np.load(file, allow_pickle=True)["variable_0"]
    assert trace.exists(), "the planted object does nothing, so this test shows nothing"


# ---------------------------------------------------------------- paths


@pytest.fixture
def manifest(tmp_path):
    """Writes pictures/list.csv with one more path; beside the folder lies secret.png."""
    folder = tmp_path / "pictures"
    (folder / "a").mkdir(parents=True)
    for name in ("a/1.png", "a/2.png", "../secret.png"):
        (folder / name).write_bytes(b"")

    def write(cell: str) -> Path:
        (folder / "list.csv").write_text(f'path,label\na/1.png,a\n"{cell}",b\n', encoding="utf-8")
        return folder / "list.csv"

    return write


def test_a_path_of_a_manifest_stays_in_its_folder(manifest, tmp_path):
    for cell in (
        "../secret.png",
        "a/../../secret.png",
        "./a/.././../secret.png",
        "a//..//..//secret.png",
        "../pictures2/1.png",
        "..",
        "/etc/hostname",
        "//etc/hostname",
        str(tmp_path / "secret.png"),
        str(tmp_path / "pictures/a/../../secret.png"),
    ):
        with pytest.raises(InputError) as refusal:
            sources.find(manifest(cell))
        text = str(refusal.value)
        assert "in line 3, which leaves the folder of the file; put the file" in text and "\n" not in text


def test_paths_within_the_folder_of_a_manifest_are_read(manifest, tmp_path):
    folder = tmp_path / "pictures"
    (folder / "linked").symlink_to(tmp_path)  # made by the user, and so meant
    for cell in ("a/2.png", "b/../a/2.png", f"{folder}/a/2.png", "linked/secret.png"):
        found = sources.find(manifest(cell))
        assert all(Path(file).is_relative_to(folder) for file in found.read())
