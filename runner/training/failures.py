"""What a fit that failed says beside the error: which examples, what is kept, what may help."""

from pathlib import Path

import tensorflow as tf

from runner.data.batches import Batches
from runner.training.stages import StagedUnfreezing


def examples(batches: Batches, staged: StagedUnfreezing) -> str:
    """The ids of the batch that was just trained on, in a sentence; "" where nothing knows them."""
    if not staged.calls or batches.steps <= 0:
        return ""
    per_call = staged.model.steps_per_execution
    done = len(staged.rows) * staged.steps + (staged.calls - 1) * per_call
    after = batches.after(done)
    if "id" not in after.element_spec:
        return ""
    ids = [one for batch in after.take(per_call) for one in batch["id"].numpy().tolist()]
    shown = ", ".join(map(str, ids[:64])) + (", ..." if len(ids) > 64 else "")
    return f" The batch's ids (rows of the manifest, from 0): {shown}."


def kept(folder: Path | None) -> str:
    """The last checkpoint in a folder, in a sentence; "" where there is none."""
    last = sorted(folder.glob("epoch-*.npz"))[-1:] if folder else []
    return f" The last good checkpoint is {last[0]}." if last else ""


def smaller_batch(train: Batches, staged: StagedUnfreezing, error: BaseException, accumulate: int) -> str:
    """Advice after a step that did not fit: the largest power of two that is at most half the batch."""
    size = int(tf.shape(tf.nest.flatten(next(iter(train.epoch())))[0])[0])
    reason = " ".join(str(getattr(error, "message", error)).split())[:200]
    advice = (
        f"try accumulate={2 * accumulate}, for the same steps in smaller parts, or a batch_size of "
        f"{2 ** ((size // 2).bit_length() - 1)}, in another run folder"
        if size > 1
        else "the batch is one picture already: use a smaller image_size or backbone"
    )
    return (
        f"stage '{staged.stage.name}', epoch {staged.stage_epoch + 1}: out of memory with {size} pictures in "
        f"a batch; {advice}. Half precision (precision='mixed_float16' on a GPU) and a smaller image_size "
        f"also help. The reason given was: {reason}"
    )
