"""The docstrings of installed packages: what the builder of this dataset and `checkpoints.docstrings` read.

Sources are parsed and never imported. Of a docstring the paragraphs of prose are kept; examples in code
(those that begin with >>>) are left out.
"""

import ast
import hashlib
import inspect
import re
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

LEAST = 80
"""Characters of a docstring that says something: shorter ones are mostly the name of what they stand in."""
_PARAGRAPH = re.compile(r"\n\s*\n")
_SPACE = re.compile(r"[ \t]+$", re.MULTILINE)
_DEFINITIONS = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef


def modules(package: metadata.Distribution) -> list[tuple[str, Path]]:
    """The Python files that an installed package brought, (name, path), in order of their names."""
    found = {}
    for one in package.files or ():
        if one.suffix == ".py" and ".." not in one.parts:
            found[one.as_posix()] = Path(str(package.locate_file(one)))
    return sorted((name, path) for name, path in found.items() if path.is_file())


def docstrings(path: Path) -> Iterator[str]:
    """The docstrings of a Python file in its order, as `prose` leaves them, those of LEAST characters and
    more; of a file that cannot be parsed none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in other people's strings
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
        return
    for node in ast.walk(tree):
        if isinstance(node, _DEFINITIONS):
            text = prose(ast.get_docstring(node, clean=False) or "")
            if len(text) >= LEAST:
                yield text


def prose(docstring: str) -> str:
    """A docstring without its indent, without examples in code, and without spaces at the ends of lines."""
    paragraphs = _PARAGRAPH.split(inspect.cleandoc(docstring))
    kept = [one.strip("\n") for one in paragraphs if one.strip() and not one.lstrip().startswith(">>>")]
    return _SPACE.sub("", "\n\n".join(kept))


def licence(package: metadata.Distribution) -> str:
    """What an installed package says of its licence, in a few words; "" where it says nothing."""
    said = package.metadata
    classifiers = [one for one in said.get_all("Classifier") or () if one.startswith("License ::")]
    short = said.get("License-Expression") or "; ".join(one.rpartition(" :: ")[2] for one in classifiers)
    whole = (said.get("License") or "").strip()
    return short or (whole.splitlines()[0][:80] if whole else "")


SPLITS = {"train": 6, "validation": 1, "test": 3}
"""How many of ten modules each has."""
SHARED = 20
"""Words of a paragraph that two docstrings have by no chance."""


def of_split(package: str, split: str) -> list[str]:
    """The docstrings of an installed package that are in a split, each once, in the order of its modules.

    Whole modules are dealt, by their names. A docstring that stands in several counts to the first, and one
    with a paragraph of SHARED words or more that a module of another split has before it is left out.
    """
    dealt = [name for name, count in SPLITS.items() for _ in range(count)]
    seen: set[str] = set()
    of_paragraph: dict[tuple[str, ...], str] = {}
    found = []
    for name, path in modules(metadata.distribution(package)):
        own = dealt[int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(dealt)]
        for text in docstrings(path):
            words = [tuple(re.findall(r"\w+", part.lower())) for part in _PARAGRAPH.split(text)]
            homes = {of_paragraph.setdefault(part, own) for part in words if len(part) >= SHARED}
            if text not in seen and homes <= {own}:
                found += [text] * (own == split)
            seen.add(text)
    return found
