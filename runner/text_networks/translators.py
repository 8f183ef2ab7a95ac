"""A decoder above an encoder: what it writes next, and the search for what it would write altogether.

The encoder's graph stays flat. Its last tensor and what the decoder has written so far go on as one
(`Beside`), so that a network can be divided below the decoder as any other (`training.frozen`); the decoder
is one layer (`Decoder`). While it is trained it sees at each place the right pieces before (teacher forcing);
afterwards `search` feeds it its own.
"""

from typing import Any

import keras
import keras_hub
import tensorflow as tf
from keras import ops

from runner.text_networks import pieces as written
from runner.text_networks.marking import present
from runner.text_networks.pieces import BEGIN, END, PADDING, UNKNOWN, Pieces

PACKAGE = "runner"
BITS = 15
"""An id is below 2**15 (`pieces.MOST`), and goes along as so many zeros and ones, which any precision has."""
NEVER = -1e9
"""The log-probability of what is not to be chosen."""


@keras.saving.register_keras_serializable(PACKAGE)
class Beside(keras.layers.Layer):
    """[hidden states (batch, length, width), ids (batch, length)] to one tensor (batch, length, width +
    BITS): each id in binary digits behind the hidden state of its place.
    """

    def call(self, inputs: Any) -> Any:
        hidden, ids = inputs
        digits = ops.mod(ids[..., None] // ops.convert_to_tensor([2**one for one in range(BITS)], "int32"), 2)
        return ops.concatenate([hidden, ops.cast(digits, hidden.dtype)], axis=-1)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        hidden, _ = inputs
        return keras.KerasTensor((*hidden.shape[:-1], hidden.shape[-1] + BITS), dtype=hidden.dtype)


def apart(joined: Any) -> tuple[Any, Any]:
    """What `Beside` joined: hidden states, and ids int32 (batch, length)."""
    digits = ops.cast(joined[..., -BITS:], "int32")
    return joined[..., :-BITS], ops.sum(
        digits * ops.convert_to_tensor([2**one for one in range(BITS)]), axis=-1
    )


@keras.saving.register_keras_serializable(PACKAGE)
class Decoder(keras.layers.Layer):
    """What `Beside` gives to the logits of the next piece at each place, float32 (batch, length, pieces).

    Layers of a transformer (Vaswani et al. 2017, arXiv:1706.03762), each normalised first, which look at the
    pieces before and at all that the encoder says of the text; the vectors of the pieces are also what tells
    them apart in the end (Press and Wolf 2017, arXiv:1608.05859).

    pieces: `Pieces.written`. length: the most pieces it has positions for. layers, width, heads: how many,
    and of what size; a layer is 4 times as wide within. dropout: in each, and on what the encoder says.
    """

    def __init__(
        self, pieces: str, length: int, layers: int, width: int, heads: int, dropout: float, **options: Any
    ):
        super().__init__(**options)
        self.pieces, self.length, self.width, self.heads = pieces, length, width, heads
        self.number_of_layers, self.rate = layers, dropout
        size = len(Pieces(pieces))
        self.embedding = keras_hub.layers.ReversibleEmbedding(
            size,
            width,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=width**-0.5),
            reverse_dtype="float32",
            dtype=self.dtype_policy,
            name="pieces",
        )
        self.positions = keras.layers.Embedding(
            length,
            width,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=0.02),
            dtype=self.dtype_policy,
            name="positions",
        )
        self.seen = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="seen")
        self.stack = [
            keras_hub.layers.TransformerDecoder(
                4 * width,
                heads,
                dropout=dropout,
                normalize_first=True,
                dtype=self.dtype_policy,
                name=f"decoder_layer_{number}",
            )
            for number in range(layers)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, dtype=self.dtype_policy, name="norm")

    def build(self, shape: Any) -> None:
        inside = (None, None, self.width)
        self.embedding.build((None, None))
        self.positions.build((None, None))
        for layer in self.stack:
            layer.build(inside, (None, None, shape[-1] - BITS))
        self.norm.build(inside)
        self.built = True

    def call(self, joined: Any, training: bool | None = None) -> Any:
        hidden, ids = apart(joined)
        there = present(hidden)
        hidden = self.seen(hidden, training=training)
        x = self.embedded(ids, ops.arange(ops.shape(ids)[1]))
        for layer in self.stack:
            x = layer(x, hidden, encoder_padding_mask=there, training=training)
        return self.embedding(self.norm(x), reverse=True)

    def embedded(self, ids: Any, places: Any) -> Any:
        """Vectors (batch, n, width) of pieces at places, int32 (batch, n) and (n,)."""
        return self.embedding(ids) * self.width**0.5 + self.positions(places)

    def step(self, ids: Any, place: Any, hidden: Any, there: Any, before: Any, seen: Any) -> tuple[Any, Any]:
        """The logits of what follows pieces at one place, float32 (n, pieces), without computing anew what
        lies before it.

        ids: int32 (n,); place: int32 (). hidden, there: what the encoder says, and which of it is no padding.
        before: the keys and values of the pieces before, of each layer (n, 2, length, heads, width / heads);
        returned with those of this place. seen: the same of what the encoder says, as `look` gives it.
        """
        x, kept = self.embedded(ids[:, None], place[None]), []
        for layer, old, encoder in zip(self.stack, before, seen, strict=True):
            x, new, _ = layer(
                x,
                hidden,
                encoder_padding_mask=there,
                self_attention_cache=old,
                self_attention_cache_update_index=place,
                cross_attention_cache=encoder,
                training=False,
            )
            kept.append(new)
        return self.embedding(self.norm(x), reverse=True)[:, 0], kept

    def nothing(self, rows: Any, length: Any) -> list[Any]:
        """Keys and values of no piece: zeros for `rows` texts and `length` places, of each layer."""
        shape = (rows, 2, length, self.heads, self.width // self.heads)
        return [ops.zeros(shape, self.compute_dtype) for _ in self.stack]

    def look(self, hidden: Any, there: Any) -> list[Any]:
        """The keys and values of what the encoder says, of each layer like those of `nothing`."""
        rows = ops.shape(hidden)[0]
        x = self.embedded(ops.full((rows, 1), BEGIN, "int32"), ops.arange(1))
        found = []
        empty = self.nothing(rows, ops.shape(hidden)[1])
        for layer, old, own in zip(self.stack, empty, self.nothing(rows, 2), strict=True):
            x, _, seen = layer(
                x,
                hidden,
                encoder_padding_mask=there,
                self_attention_cache=own,
                self_attention_cache_update_index=0,
                cross_attention_cache=old,
                cross_attention_cache_update_index=0,
                training=False,
            )
            found.append(seen)
        return found

    def compute_output_spec(self, joined: Any, training: bool | None = None) -> keras.KerasTensor:
        return keras.KerasTensor((*joined.shape[:-1], len(Pieces(self.pieces))), dtype="float32")

    def get_config(self) -> dict:
        return super().get_config() | {
            "pieces": self.pieces,
            "length": self.length,
            "layers": self.number_of_layers,
            "width": self.width,
            "heads": self.heads,
            "dropout": self.rate,
        }


def search(decoder: Decoder, hidden: Any, beams: int, length: int) -> tuple[Any, Any]:
    """What a decoder writes of texts: ids int32 (batch, length), padding behind the end, and the mean
    log-probability of a piece, the end among them, float32 (batch,).

    At each place go on the `beams` beginnings that are likeliest as a whole; one that has ended stays as it
    is, and competes. Of those that are left the one whose mean is largest is the answer; where there are any,
    one that has ended. One beam is greedy search: always the likeliest next piece. Stops when all have ended,
    or after `length` pieces; to stop with the likeliest as a whole would favour short ones.

    hidden: what an encoder says, (batch, tokens, width), 0 for padding.
    """
    there = present(hidden)
    batch = tf.shape(hidden)[0]
    size = len(Pieces(decoder.pieces))
    seen = decoder.look(hidden, there)
    if beams > 1:
        hidden, there, *seen = (tf.repeat(one, beams, axis=0) for one in (hidden, there, *seen))
    own = tf.range(batch * beams) // beams * beams
    unwritten = tf.one_hot([PADDING, BEGIN, UNKNOWN], size, NEVER, 0.0)
    unwritten = tf.reduce_sum(unwritten, axis=0)
    ended_goes_on = tf.one_hot(PADDING, size, 0.0, NEVER)

    def on(place: Any, ids: Any, total: Any, ended: Any, *before: Any) -> tuple:
        last = tf.where(place > 0, ids[:, tf.maximum(place - 1, 0)], BEGIN)
        logits, kept = decoder.step(last, place, hidden, there, before, seen)
        chances = tf.nn.log_softmax(tf.cast(logits, tf.float32)) + unwritten
        chances = tf.where(ended[:, None], ended_goes_on, chances)
        whole = tf.reshape(total[:, None] + chances, (batch, beams * size))
        best, number = tf.math.top_k(whole, beams)
        number = tf.reshape(number, (-1,))
        of, piece = own + number // size, number % size
        if beams > 1:
            ids, ended, *kept = (tf.gather(one, of) for one in (ids, ended, *kept))
        ids = tf.where(tf.range(length)[None] == place, piece[:, None], ids)
        return place + 1, ids, tf.reshape(best, (-1,)), ended | (piece == END), *kept

    first = tf.where(tf.range(batch * beams) % beams == 0, 0.0, NEVER)  # else all would be the same one
    state = (
        tf.constant(0),
        tf.fill((batch * beams, length), PADDING),
        first,
        tf.fill((batch * beams,), False),
        *decoder.nothing(batch * beams, length),
    )
    goes_on = lambda place, ids, total, ended, *before: ~tf.reduce_all(ended)  # noqa: E731
    _, ids, total, ended, *_ = tf.while_loop(goes_on, on, state, maximum_iterations=length)
    count = tf.reduce_sum(tf.cast(ids != PADDING, tf.float32), axis=1)
    mean = total / tf.maximum(count, 1.0)
    worth = tf.reshape(mean + tf.where(ended, 0.0, NEVER), (batch, beams))
    best = tf.range(batch) * beams + tf.argmax(worth, axis=1, output_type=tf.int32)
    return tf.gather(ids, best), tf.gather(mean, best)


@keras.saving.register_keras_serializable(PACKAGE)
class Translate(keras.layers.Layer):
    """What an encoder says of texts, (batch, tokens, width), to [ids, mean log-probability] of `search`."""

    def __init__(self, decoder: Any, beams: int, length: int, **options: Any):
        super().__init__(**options)
        self.decoder, self.beams, self.length = decoder, beams, length

    def build(self, shape: Any) -> None:
        if not self.decoder.built:
            self.decoder.build((*shape[:-1], shape[-1] + BITS))
        self.built = True

    def call(self, hidden: Any) -> Any:
        return list(search(self.decoder, hidden, self.beams, self.length))

    def compute_output_spec(self, hidden: Any) -> list[keras.KerasTensor]:
        rows = hidden.shape[:1]
        return [keras.KerasTensor((*rows, self.length), "int32"), keras.KerasTensor(rows, "float32")]

    def get_config(self) -> dict:
        decoder = keras.saving.serialize_keras_object(self.decoder)
        return super().get_config() | {"decoder": decoder, "beams": self.beams, "length": self.length}

    @classmethod
    def from_config(cls, config: dict) -> "Translate":
        return cls(keras.saving.deserialize_keras_object(config.pop("decoder")), **config)


def decoder_of(network: keras.Model) -> Any:
    """The `Decoder` of a network, as it is trained or as it translates; None of one that has none."""
    layers = (layer.decoder if isinstance(layer, Translate) else layer for layer in network.layers)
    return next((layer for layer in layers if isinstance(layer, Decoder)), None)


def encoded(network: keras.Model) -> Any:
    """The tensor of a network with a decoder that is the encoder's last."""
    layer = next(layer for layer in network.layers if isinstance(layer, Beside | Translate))
    given = layer.input
    return given[0] if isinstance(given, list | tuple) else given


def copy(decoder: Decoder, width: int) -> Decoder:
    """A decoder with the same settings and weights; width: of the encoder's hidden states."""
    fresh = Decoder.from_config(decoder.get_config())
    fresh.build((None, None, width + BITS))
    fresh.set_weights(decoder.get_weights())
    return fresh


def translations(decoder: Decoder, hidden: Any, beams: int, length: int) -> dict[str, Any]:
    """Keras tensors of what a decoder writes: "translation", strings (batch,), and "score", float32 (batch,),
    the mean probability of a piece (the geometric one), 0..1.
    """
    ids, mean = Translate(decoder, beams, length, name="translate")(hidden)
    text = written.Written(decoder.pieces, name="written")(ids)
    return {"translation": text, "score": ops.exp(mean)}
