"""Examples of any kind in class folders, a file each, also below train, val and test; no file is opened."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from runner.data.files import (
    SPLIT_WORDS,
    children,
    composed,
    printable,
    refuse_dead_folders,
    singular,
    split_meant,
)
from runner.data.source import Source, in_one_form, ordered
from runner.errors import InputError


def find(root: Path, suffixes: Collection[str], unit: str) -> Source:
    """List the files of the class folders below `root`, or of those in its folders train, val and test.

    suffixes: endings of files, in lower case, that are certainly examples; unit: the word for examples, in
    the plural. Every file of a class folder is listed, whatever its ending, as (path relative to root, class,
    split or ""); `read` gives the paths of the files. Raises InputError for what lies there in another way.
    """
    layout = f"CLASS/{singular(unit)} or SPLIT/CLASS/{singular(unit)} with splits train, val, test"
    folders, files = children(root)
    loose = [name for name in files if Path(name).suffix.lower() in suffixes]
    if not folders:
        found = f"{len(loose)} {unit} without class folders" if loose else f"no {unit}"
        raise InputError(f"Received data={str(root)!r}, a folder with {found}; expected {layout}.")
    if loose:
        raise InputError(
            f"Received data={str(root)!r} with {unit} beside its folders, such as {loose[0]!r}; "
            f"expected {layout}: move them into a class folder or away."
        )
    refuse_dead_folders(root)
    inside = {name: children(root / name)[0] for name in folders}
    with_classes = [name for name in folders if name.lower() in SPLIT_WORDS and inside[name]]
    meant = [name for name in folders if split_meant(name) and name.lower() not in SPLIT_WORDS]
    renamed = [name for name in meant if inside[name] or with_classes]
    if renamed:
        raise InputError(
            f"Received data={str(root)!r}, whose folders {', '.join(map(repr, renamed[:3]))} look like "
            "splits; rename each to train, val or test, so that none is taken for a class."
        )
    if not with_classes:
        if all(map(split_meant, folders)) and "train" in map(split_meant, folders):
            raise InputError(
                f"Received data={str(root)!r}, whose split folders ({', '.join(folders)}) hold no class "
                f"folders; expected {layout}."
            )
        if len(folders) == 1 and inside[folders[0]]:
            raise InputError(
                f"Received data={str(root)!r}, which holds one folder that holds more; did you mean "
                f"{str(root / folders[0])!r}? Expected {layout}."
            )
        return _from_files(root, unit, layout, [(name, "", name) for name in folders])

    others = [name for name in folders if name not in with_classes]
    flat = [name for name in others if name.lower() in SPLIT_WORDS]
    if flat:
        raise InputError(
            f"Received data={str(root)!r}, whose folder {flat[0]!r} has no class folders, so that nothing "
            "says what its {unit} show; give it some, or keep it elsewhere (`predict` takes it as it is)."
        )
    if others:
        raise InputError(
            f"Received data={str(root)!r}, which mixes split folders ({', '.join(with_classes)}) with other "
            f"folders ({', '.join(others[:5])}); expected {layout}."
        )
    splits = [SPLIT_WORDS[name.lower()] for name in with_classes]
    if len(set(splits)) < len(splits) or "train" not in splits:
        raise InputError(
            f"Received data={str(root)!r} with split folders {', '.join(with_classes)}; expected one train "
            "folder and at most one each of val (or validation) and test."
        )
    for name in with_classes:
        refuse_dead_folders(root / name)
    classes = {name: set(map(composed, inside[name])) for name in with_classes}
    everything = set().union(*classes.values())
    for name, found in classes.items():
        if found != everything:
            raise InputError(
                f"Received data={str(root)!r}, whose folder {name!r} lacks class folders that another split "
                f"has: {', '.join(sorted(everything - found)[:5])}; the splits need the same classes."
            )
    places = [
        (f"{name}/{class_name}", split, class_name)
        for name, split in zip(with_classes, splits, strict=True)
        for class_name in inside[name]
    ]
    return _from_files(root, unit, layout, places)


def _from_files(root: Path, unit: str, layout: str, places: list[tuple[str, str, str]]) -> Source:
    """List the files of class folders, given as (folder below root, split, class)."""
    rows, files = [], []
    for place, split, label in places:
        if printable(label) != label:
            raise InputError(
                f"Received a class folder {printable(label)!r} whose name is not UTF-8; rename it."
            )
        deeper, names = children(root / place)
        nested = [name for name in deeper if any(children(root / place / name))]
        if any(map(split_meant, nested)):
            raise InputError(
                f"Received data={str(root)!r} with {place + '/' + nested[0]!r}, a split inside a folder that "
                f"stands where a class is expected; expected {layout}: did you mean {str(root / place)!r}?"
            )
        if nested:
            raise InputError(
                f"Received data={str(root)!r} with {place + '/' + nested[0]!r}, a folder inside a class "
                f"folder; expected {layout}: move its files up."
            )
        for name in names:
            rows.append((printable(f"{place}/{name}"), label, split, ""))
            files.append(str(root / place / name))
    if not rows:
        raise InputError(
            f"Received data={str(root)!r}, whose folders are all empty; expected {unit} in them."
        )
    examples = pd.DataFrame(rows, columns=["path", "label", "split", "group"], dtype=object)
    names, problems = in_one_form([label for _, _, label in places])
    called = dict(zip([label for _, _, label in places], names, strict=True))
    examples["label"] = [called[label] for label in examples["label"]]
    return Source(examples, ordered(set(names)), lambda: iter(files), problems)
