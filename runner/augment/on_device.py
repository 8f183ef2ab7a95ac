"""Augmentation on the device that trains.

On a processor, `tf.data` augments while the network trains, on the same cores: there is nothing to choose. A
GPU may take pictures faster than the processors beside it can augment them; then the input sends them as they
are with two small matrices each, and the GPU does the rest (`views.show`).
"""

import keras

from runner.augment import views


def put(batch: dict) -> dict:
    """A batch with what `views.draw` drew, and what it drew it for, together as its "input"."""
    batch = dict(batch)
    return batch | {"input": {name: batch.pop(name) for name in ("input", "geometric", "colour")}}


class AugmentedOnDevice(keras.Model):
    """A network whose training step first makes the views that the input has drawn.

    Made of a functional network's `inputs` and `outputs`, it shares all its layers. It trains on batches of
    (what `put` makes, labels[, weights]) and is evaluated on images in its place like the network itself.
    """

    def train_step(self, data: tuple) -> dict:
        batch, *others = data  # labels, and weights where there are some
        return super().train_step((views.show(batch)["input"], *others))

    def _symbolic_build(self, iterator=None, data_batch=None):
        """Keras builds loss and metrics from a first batch under a strategy, which it takes for images."""
        if data_batch is not None and isinstance(data_batch[0], dict):
            data_batch = data_batch[0]["input"], *data_batch[1:]
        super()._symbolic_build(iterator, data_batch)


def wrap(network: keras.Model) -> AugmentedOnDevice:
    """The network of one input as an `AugmentedOnDevice`, compiled with the same loss, metrics and optimizer
    objects, in its strategy's scope.
    """
    with network.distribute_strategy.scope():
        model = AugmentedOnDevice(network.input, network.output, name=network.name)
        # Not from its config, which lacks what a loss or an optimizer of one's own leaves out of it.
        settings = network._compile_config.config | {"optimizer": network.optimizer}
        model.compile(**settings, auto_scale_loss=False)
        model.steps_per_execution = network.steps_per_execution
    return model
