"""MNIST and USPS, as downloaded, become two folders of pictures, one domain each.

    python -m benchmarks.digit_pairs --mnist FOLDER --usps FILE --output FOLDER --most 3000

FOLDER of MNIST holds the four idx files of its page, packed (.gz) or not; where the training files are not
there its 10,000 test digits are all there is, and become one folder without splits. FILE of USPS is usps.h5
(HDF5: train and test, each with data (n, 256) from 0 to 1 and target (n,)). Pixels stay as they are: 28 x 28
and 16 x 16, white on black, USPS without the margin that MNIST has.
"""

import argparse
import gzip
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from runner import flags
from runner.errors import InputError

IDX_TYPES = {8: np.uint8}
MNIST_PARTS = {"train": "train", "test": "t10k"}


def read_idx(path: Path) -> np.ndarray:
    """The array in an idx file of unsigned bytes, packed or not: 2 zero bytes, type, number of axes, lengths
    (big-endian), values.
    """
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in IDX_TYPES:
        raise InputError(f"{path} is no idx file of unsigned bytes; give MNIST's own files.")
    shape = struct.unpack_from(f">{raw[3]}I", raw, 4)
    values = np.frombuffer(raw, IDX_TYPES[raw[2]], offset=4 + 4 * raw[3])
    if values.size != np.prod(shape):
        raise InputError(f"{path} is cut short: {values.size} of {np.prod(shape)} values; download it again.")
    return values.reshape(shape)


def mnist(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """split -> (images uint8 (n, 28, 28), labels (n,)), of the splits that are there."""
    splits = {}
    for split, part in MNIST_PARTS.items():
        files = [
            next((path for path in sorted(folder.glob(f"{part}-{kind}*"))), None)
            for kind in ("images", "labels")
        ]
        if all(files):
            splits[split] = read_idx(files[0]), read_idx(files[1])
    if not splits:
        raise InputError(f"--mnist {folder}: there is no t10k-images* with t10k-labels*; give their folder.")
    return splits


def usps(file: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """split -> (images uint8 (n, 16, 16), labels (n,))."""
    import h5py

    try:
        with h5py.File(file) as found:
            parts = {
                split: (found[split]["data"][:], found[split]["target"][:]) for split in ("train", "test")
            }
    except (OSError, KeyError) as error:
        raise InputError(f"--usps {file} cannot be read ({error}); give usps.h5.") from error
    return {
        split: (np.rint(255 * values.reshape(-1, 16, 16)).astype(np.uint8), labels)
        for split, (values, labels) in parts.items()
    }


def thinned(
    splits: dict[str, tuple[np.ndarray, np.ndarray]], most: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The same splits with at most `most` examples in all, evenly over each."""
    share = min(1.0, most / sum(len(labels) for _, labels in splits.values()))
    kept = {
        split: np.linspace(0, len(labels) - 1, int(share * len(labels))).astype(int)
        for split, (_, labels) in splits.items()
    }
    return {split: (images[kept[split]], labels[kept[split]]) for split, (images, labels) in splits.items()}


def write(splits: dict[str, tuple[np.ndarray, np.ndarray]], output: Path) -> int:
    """Write output[/SPLIT]/CLASS/NUMBER.png and return how many; one split alone makes no folder."""
    for split, (images, labels) in splits.items():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = (output / split if len(splits) > 1 else output) / str(int(label))
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:05}.png")
    return sum(len(images) for images, _ in splits.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, required=True, help="folder of the idx files")
    parser.add_argument("--usps", type=Path, required=True, help="usps.h5")
    parser.add_argument("--output", type=Path, required=True, help="gets the folders mnist and usps")
    parser.add_argument("--most", type=int, default=10_000, help="digits of each set, evenly over its files")
    arguments = parser.parse_args()
    pairs = {"mnist": mnist(arguments.mnist), "usps": usps(arguments.usps)}
    pairs = {name: thinned(splits, arguments.most) for name, splits in pairs.items()}
    for name, splits in pairs.items():
        if (arguments.output / name).exists():
            raise InputError(f"--output {arguments.output}: {name} is there already; give another folder.")
        print(f"{arguments.output / name}: {write(splits, arguments.output / name)} pictures")


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
