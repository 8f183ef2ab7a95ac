"""Tests of the package_docstrings dataset: what is installed decides how much there is."""

from pathlib import Path

from . import reading


def test_whole_modules_are_dealt_and_no_docstring_stands_in_two_splits():
    splits = {split: reading.of_split("matplotlib", split) for split in reading.SPLITS}
    sizes = {split: len(texts) for split, texts in splits.items()}
    assert sizes["train"] > sizes["test"] > sizes["validation"] > 100
    whole = [text for texts in splits.values() for text in texts]
    assert len(set(whole)) == len(whole)
    assert all(len(text) >= reading.LEAST for text in whole)


def test_prose_is_kept_and_code_is_not():
    docstring = """Do it.

        The second
          paragraph.   \n
        >>> do(it)
        'done'

        Last.
    """
    assert reading.prose(docstring) == "Do it.\n\nThe second\n  paragraph.\n\nLast."
    assert reading.prose("") == "" and reading.prose(">>> only(code)") == ""


def test_files_that_cannot_be_parsed_have_no_docstrings(tmp_path: Path):
    (tmp_path / "bad.py").write_bytes(b"def (:\n")
    (tmp_path / "nul.py").write_bytes(b"\0")
    long = "Say something that is long enough to be kept, which takes eighty characters or some more."
    (tmp_path / "good.py").write_text(
        f'"""{long}"""\n\n\ndef one():\n    """Short."""\n\n\nclass Two:\n    """{long} Again."""\n'
    )
    assert (
        list(reading.docstrings(tmp_path / "bad.py")) == list(reading.docstrings(tmp_path / "nul.py")) == []
    )
    assert list(reading.docstrings(tmp_path / "nowhere.py")) == []
    assert list(reading.docstrings(tmp_path / "good.py")) == [long, f"{long} Again."]
