"""A training step on parts of a batch: of several replicas, and of one replica one after another.

    accumulation.divide(model, 8)      # or multi_worker.prepare(model, 8), for any number of replicas
    model.fit(batches, ...)

With `divide(model, k)` a replica computes its rows in k parts, one after another, adds up their gradients and
takes one step: that of the whole batch, in the memory that the activations of one part take. Keras' own
`gradient_accumulation_steps` does not run under MirroredStrategy (keras #20582: it sums the replicas'
gradients within a `tf.cond`), keeps sums in the optimizer, and counts each part as a step. Here a step stays
a step: nothing is kept between two, so schedules, checkpoints and stages know nothing of it.

Rows count alike, wherever they are computed: n rows are divided in order into parts of n/k rows, rounded up
or down, and some parts of a small batch have none. Only what looks at several rows at once knows of the
parts: BatchNorm that learns takes its statistics of each, moving its averages k times in a step; a loss with
reduction "mean_with_sample_weight" divides by the weights of a part. Dropout draws for each part anew.

The parts are traced one by one, since the sums over replicas that BatchNorm needs cannot be in a loop:
tracing takes k times as long. XLA is switched off: it takes what does not depend on each other in any order,
all parts at once included (8 parts under XLA on a CPU took the memory of the whole batch).
"""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# What a step that is being traced works on; each replica of a process traces in a thread of its own.
_PART = threading.local()


def divide(model: keras.Model, parts: int = 1) -> None:
    """Let a compiled model take its training steps in so many parts of a replica's rows, which may be none.

    Overrides methods of this one object; its class and what it saves stay as they are. Works also where an
    optimizer or compiled step is made anew later (`stages.StagedUnfreezing`). A `train_step` of the model's
    own must do as Keras' does: pass its loss through `optimizer.scale_loss` and its gradients, once, to
    `optimizer.apply_gradients`. A second time it changes the number of parts, for the next compiled step.
    """
    override(model, "_parts", parts)
    if parts > 1:
        model.jit_compile = False
    if "train_step" in vars(model):
        return
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization) and "_moments" not in vars(layer):
            override(layer, "_moments", _without_stand_in(layer, layer._moments))
    call, train_step, make_train_function = model.call, model.train_step, model.make_train_function

    def make_dividing_train_function(force: bool = False):
        _divide_optimizer(model.optimizer)
        return make_train_function(force)

    override(model, "call", _with_stand_in(call))
    override(model, "train_step", lambda data: _train(train_step, data, model._parts))
    override(model, "make_train_function", make_dividing_train_function)


def override(owner: object, name: str, value: object) -> None:
    """Set an attribute on one object; Keras would track an ordinary one."""
    object.__setattr__(owner, name, value)


def without_training(step: Callable, data: Any) -> Any:
    """Trace a step that learns nothing on a replica's rows, which may be none."""
    _PART.rows = _count(data)
    try:
        return step(data)
    finally:
        _PART.rows = None


def _train(step: Callable, data, parts: int):
    """Trace a training step, part by part.

    Keras' loss of a part is the mean over its rows, divided by the number R of replicas. Times R and its
    share of the rows of the global batch that is the sum over its rows divided by the number of all rows, and
    the gradients, which are added up, are those of the whole batch. Losses of regularisation, the same in
    each part, keep their weight: the factors of all parts add up to R.
    """
    context, rows = tf.distribute.get_replica_context(), _count(data)
    bounds = [-(-rows * one // parts) for one in range(parts + 1)]
    here = tf.cast(tf.stack([last - first for first, last in itertools.pairwise(bounds)]), tf.float32)
    everywhere = context.all_reduce(tf.distribute.ReduceOp.SUM, here)
    weights = here * context.num_replicas_in_sync / tf.reduce_sum(everywhere)
    _PART.parts, _PART.gradients = parts, None
    try:
        for part, (first, last) in enumerate(itertools.pairwise(bounds)):
            _PART.last, _PART.rows = part == parts - 1, last - first
            _PART.weight, _PART.everywhere = weights[part], everywhere[part]
            logs = step(data if parts == 1 else _rows(data, first, last))
        return logs
    finally:
        _PART.rows = _PART.gradients = None


def _count(data) -> tf.Tensor:
    return tf.shape(tf.nest.flatten(data)[0])[0]


def _rows(data, first: tf.Tensor, last: tf.Tensor):
    """Some rows, once the gradients of those before are there: else all parts would be computed at once."""
    before = [one for one in _PART.gradients or () if one is not None]
    with tf.control_dependencies(before):
        return keras.tree.map_structure(lambda one: None if one is None else one[first:last], data)


def _divide_optimizer(optimizer) -> None:
    """Weigh each part's loss; keep the gradients of all parts but the last, which applies the sum."""
    for name in ("scale_loss", "apply_gradients"):
        vars(optimizer).pop(name, None)
    scale_loss, apply_gradients = optimizer.scale_loss, optimizer.apply_gradients

    def scale_weighted_loss(loss):
        return scale_loss(loss * tf.cast(_PART.weight, loss.dtype) if _in_step() else loss)

    def apply_sum(gradients_and_variables):
        gradients, variables = zip(*gradients_and_variables, strict=True)
        if _in_step() and _PART.parts > 1:
            before = _PART.gradients or [None] * len(gradients)
            gradients = [_sum(*pair) for pair in zip(before, gradients, strict=True)]
            _PART.gradients = gradients
            if not _PART.last:
                return optimizer.iterations
        return apply_gradients(zip(gradients, variables, strict=True))

    override(optimizer, "scale_loss", scale_weighted_loss)
    override(optimizer, "apply_gradients", apply_sum)


def _in_step() -> bool:
    return getattr(_PART, "rows", None) is not None


def _sum(one, other):
    """The sum of two gradients of a variable, of which either may be None."""
    if one is None or other is None:
        return one if other is None else tf.convert_to_tensor(other)  # rows of an embedding become whole
    return one + tf.convert_to_tensor(other)


def _with_stand_in(call: Callable) -> Callable:
    """Run a model on one row of zeros where there is none, and drop what comes of it: a convolution of no
    pictures gives a wrong shape on a CPU (oneDNN in TensorFlow 2.21).
    """

    def padded(inputs, *arguments, **named):
        if not _in_step():
            return call(inputs, *arguments, **named)
        rows = _PART.rows

        def at_least_one(tensor):
            # Texts are of another length in each batch.
            known = tensor.shape[1:].is_fully_defined()
            shape = tensor.shape[1:] if known else tf.shape(tensor)[1:]
            one = tf.zeros(tf.concat([[1], shape], axis=0), tensor.dtype)
            one = tf.ensure_shape(one, [1, *tensor.shape[1:]])
            return tf.cond(rows > 0, lambda: tensor, lambda: one)

        outputs = call(keras.tree.map_structure(at_least_one, inputs), *arguments, **named)
        return keras.tree.map_structure(lambda tensor: tensor[:rows], outputs)

    return padded


def _without_stand_in(layer, moments: Callable) -> Callable:
    """Keep that row out of BatchNorm's statistics; where no replica has a row they stay what they are."""

    def of_rows(inputs, mask):
        if not _in_step() or mask is not None:
            return moments(inputs, mask)
        found = moments(inputs[: _PART.rows], mask)
        if _PART.parts == 1:
            return found
        seen, averages = _PART.everywhere > 0, (layer.moving_mean, layer.moving_variance)
        pairs = zip(found, averages, strict=True)
        return tuple(tf.where(seen, one, tf.cast(still, one.dtype)) for one, still in pairs)

    return of_rows
