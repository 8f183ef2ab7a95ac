"""Tokens a second that a decoder goes on with, compiled and with a memory of what was computed before.

    python -m benchmarks.generation --batches 1 16 --tokens 100

The first call of each size compiles, and is told apart; the others are timed.
"""

import statistics
import time
from collections.abc import Sequence

import tyro

from runner.text_networks import decoder_weights
from runner.text_runs import generate

PROMPT = "The function returns"


def measured(
    weights: str, backbone: str, batch: int, tokens: int, sampler: str, repeats: int
) -> tuple[float, list[float]]:
    """Seconds of the first call, and tokens a second of each of the others."""
    tokenizer = decoder_weights.tokenizer(weights)
    network = decoder_weights.build(backbone, weights, 64, tokenizer, dropout=0.0)
    go_on = generate.Continuer(network, tokenizer, sampler)
    started = time.perf_counter()
    go_on([PROMPT] * batch, tokens)
    first, found = time.perf_counter() - started, []
    for _ in range(repeats):
        before, compiled = go_on.tokens, len(go_on._compiled)
        started = time.perf_counter()
        go_on([PROMPT] * batch, tokens)
        found.append((go_on.tokens - before) / (time.perf_counter() - started))
        assert len(go_on._compiled) == compiled  # nothing was traced anew
    return first, found


def main(
    weights: str = "docstrings_gpt",
    backbone: str = "auto",
    batches: Sequence[int] = (1, 16),
    samplers: Sequence[str] = generate.SAMPLERS,
    tokens: int = 100,
    repeats: int = 5,
) -> None:
    """Print a table in Markdown: a row per sampler, a column per size of batch.

    Args:
        weights: of a decoder.
        backbone: its name, or auto.
        batches: texts that are gone on with together.
        samplers: how tokens are chosen.
        tokens: that each text is gone on with, at most.
        repeats: timed calls.
    """
    print("| sampler | " + " | ".join(f"batch {one}" for one in batches) + " | first call, s |")
    print("| --- " * (len(batches) + 2) + "|")
    for sampler in samplers:
        cells, seconds = [], 0.0
        for batch in batches:
            first, found = measured(weights, backbone, batch, tokens, sampler, repeats)
            seconds = max(seconds, first)
            cells.append(f"{statistics.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f})")
        print(f"| {sampler} | {' | '.join(cells)} | {seconds:.1f} |", flush=True)
    print("\nTokens a second: median and range of the timed calls.")


if __name__ == "__main__":
    tyro.cli(main)
