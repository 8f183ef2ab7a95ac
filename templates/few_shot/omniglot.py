"""Omniglot's zip files as a folder of classes, and Lake's one-shot runs.

    python -m templates.few_shot.omniglot images_background_small1.zip images_background_small2.zip FOLDER

A class is a character of an alphabet, with 20 drawings; one that stands in several files is taken once. Lake
et al., "Human-level concept learning through probabilistic program induction" (Science 2015).
"""

import argparse
import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from runner import flags
from runner.errors import InputError
from runner.pictures import images, square


def unpack(files: Sequence[str | Path], destination: str | Path) -> int:
    """Write destination/ALPHABET_CHARACTER/NUMBER.png for every drawing; returns the number of characters.

    files: zip files of SET/ALPHABET/CHARACTER/NUMBER.png. Raises InputError for what is none of these, and
    where the folder is there already.
    """
    destination, found = Path(destination), set()
    if destination.exists():
        raise InputError(f"{destination} exists; give another name, or move it away.")
    for file in files:
        with _opened(file) as archive:
            names = [one for one in map(PurePosixPath, archive.namelist()) if one.suffix == ".png"]
            if not names or any(len(one.parts) != 4 or ".." in one.parts for one in names):
                raise InputError(
                    f"{file} holds no drawings as SET/ALPHABET/CHARACTER/NUMBER.png; give Omniglot's "
                    "images_background zips (its one-shot runs are read by benchmarks.few_shot)."
                )
            for name in names:
                place = destination / f"{name.parts[1]}_{name.parts[2]}"
                place.mkdir(parents=True, exist_ok=True)
                (place / name.name).write_bytes(archive.read(str(name)))
                found.add(place.name)
    return len(found)


def one_shot_runs(
    file: str | Path, image_size: int, resize: str = "stretch"
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Lake's 20 runs of all_runs.zip: 20 characters of one alphabet, a drawing of each by one hand, and as
    many by another to be told apart.

    Yields support and queries, uint8 (20, image_size, image_size, 3) each, and which of the support each
    query is, int64 (20,).
    """
    with _opened(file) as archive:
        lists = sorted(name for name in archive.namelist() if name.endswith("class_labels.txt"))
        if not lists:
            raise InputError(f"{file} holds no runNN/class_labels.txt; give Omniglot's all_runs.zip.")
        for name in lists:
            pairs = [line.split() for line in archive.read(name).decode().splitlines() if line.strip()]
            support = sorted({own for _, own in pairs})

            def picture(path: str) -> np.ndarray:
                with images.decoded(archive.read(path)) as (image, _):
                    return square.resize(image, image_size, resize)

            yield (
                np.stack([picture(path) for path in support]),
                np.stack([picture(path) for path, _ in pairs]),
                np.array([support.index(own) for _, own in pairs]),
            )


def _opened(file: str | Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(Path(file).expanduser().read_bytes()))
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is no readable zip file ({error}); give those of Omniglot.") from error


def main() -> None:
    parser = argparse.ArgumentParser(description="Omniglot's zip files as a folder of classes.")
    parser.add_argument("files", nargs="+", help="images_background*.zip")
    parser.add_argument("folder", help="a folder that is not there yet")
    options = parser.parse_args()
    print(f"{unpack(options.files, options.folder)} characters in {options.folder}")


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
