"""Pictures that fit in memory: one array, and three datasets that are windows on it."""

import numpy as np
import tensorflow as tf


def aligned(count: int, image_size: int) -> np.ndarray:
    """Return zeros, uint8 (count, image_size, image_size, 3), where TensorFlow can use it without a copy."""
    size = count * image_size**2 * 3
    raw = np.zeros(size + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].reshape(count, image_size, image_size, 3)


def datasets(
    pictures: np.ndarray, ids: list[np.ndarray], targets: dict[str, np.ndarray]
) -> list[tf.data.Dataset]:
    """Return a dataset per array of ids; all are windows on the one array of pictures, which is not copied.

    targets: what goes with the pictures, by name ("label", "mask", ...): a row for each of them.

    Three parts taken out of the array would be copies; a gather per element is several times slower, and a
    shuffle buffer then holds copies. So the rows are put in the order of the splits, in place.
    """
    # The default rewriting of the graph (fusing maps and the like) copies every tensor in it: 234 MiB for
    # 20,000 pictures of 64 px. Automatic parallelism and buffer sizes are another option and stay on.
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    used = np.concatenate(ids)
    if len(used) * 2 < len(pictures):  # few labels: give the memory of the rest back
        kept = aligned(len(used), pictures.shape[1])
        np.take(pictures, used, axis=0, out=kept)
        pictures = kept
    else:
        rest = np.setdiff1d(np.arange(len(pictures)), used)
        _reorder(pictures, np.concatenate([used, rest]))
    with tf.device("CPU:0"):
        # convert_to_tensor copies whatever the alignment (TensorFlow 2.21); DLPack shares.
        tensor = tf.experimental.dlpack.from_dlpack(pictures.__dlpack__())
        datasets, start = [], 0
        for rows in ids:
            part = tensor[start : start + len(rows)]
            along = {name: values[rows] for name, values in targets.items()}
            elements = {"id": rows, "input": part, **along}
            datasets.append(tf.data.Dataset.from_tensor_slices(elements).with_options(options))
            start += len(rows)
    return datasets


def _reorder(array: np.ndarray, order: np.ndarray) -> None:
    """Do array[:] = array[order] in place, along the cycles of the permutation."""
    done = np.zeros(len(array), dtype=bool)
    for start in range(len(array)):
        if done[start] or order[start] == start:
            continue
        held, here = array[start].copy(), start
        while order[here] != start:
            array[here] = array[order[here]]
            done[here] = True
            here = order[here]
        array[here] = held
        done[here] = True
