"""What counts as data in a folder, what names mean, and files that a list names."""

import os

import pytest

from runner.data import files
from runner.errors import InputError


def test_what_systems_keep_for_themselves_is_no_data(tmp_path):
    for name in ("@eaDir", "$RECYCLE.BIN", "lost+found", "System Volume Information", "__MACOSX", "#recycle"):
        (tmp_path / name).mkdir()
    for name in ("Thumbs.db", "desktop.ini", ".hidden", "a.png"):
        (tmp_path / name).write_text("")
    (tmp_path / "rose").mkdir()
    assert files.children(tmp_path) == (["rose"], ["a.png"])


def test_dead_links_count_as_files_and_hide_nothing(tmp_path):
    (tmp_path / "b.png").write_text("")
    os.symlink("nowhere", tmp_path / "a.png")
    os.symlink("loop.png", tmp_path / "loop.png")
    os.symlink("b.png", tmp_path / "c.png")
    os.mkfifo(tmp_path / "pipe")
    os.symlink("pipe", tmp_path / "to the pipe")
    assert files.children(tmp_path) == ([], ["a.png", "b.png", "c.png", "loop.png"])
    files.refuse_dead_folders(tmp_path)
    os.symlink("gone", tmp_path / "rose")
    with pytest.raises(InputError, match="'rose', a link that leads nowhere"):
        files.refuse_dead_folders(tmp_path)


@pytest.mark.parametrize(
    "name, split",
    [
        ("Training Set", "train"),
        ("train2017", "train"),
        ("test_images", "test"),
        ("Validation", "val"),
        ("dev set", "val"),
        ("test tube", ""),
        ("Train station", ""),
        ("train_val", ""),
        ("images", ""),
        ("", ""),
        ("rose", ""),
    ],
)
def test_folders_that_look_like_splits(name, split):
    assert files.split_meant(name) == split


def test_a_name_is_found_in_either_unicode_form_and_within_its_folder_alone(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_text("")
    (tmp_path / "in" / "cafe\u0301.png").write_text("")
    assert files.existing(tmp_path / "in" / "caf\u00e9.png") == str(tmp_path / "in" / "cafe\u0301.png")
    assert files.existing(tmp_path / "in" / "cafe.png") == files.existing(tmp_path / "in") == ""
    assert files.existing("a\0b") == ""
    for name in ("../secret.png", str(tmp_path / "secret.png"), "..\\secret.png"):
        with pytest.raises(InputError, match="leaves its folder"):
            files.find_listed(name, [tmp_path / "in"], tmp_path / "list.json")
    (tmp_path / "in" / "secret.png").write_text("")
    found, there = files.find_listed("../secret.png", [tmp_path / "in"], tmp_path / "list.json")
    assert there and found == tmp_path / "in" / "secret.png"


def test_folders_that_are_linked_are_walked_and_rings_end(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.txt").touch()
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "a.txt").touch()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "round").symlink_to(root)
    found = [str(path.relative_to(root)) for path in files.walk(root)]
    assert found == ["a/a.txt", "linked/b.txt"]
    assert list(files.walk(root / "a" / "a.txt")) == [root / "a" / "a.txt"]
