"""The names of the networks for rows; `networks` builds them. Nothing heavy is imported here."""

from runner.errors import InputError, suggest

BACKBONES = ("residual-mlp", "ft-transformer")


def find(name: str) -> str:
    """The name of a backbone; raises InputError for another."""
    if name not in BACKBONES:
        raise InputError(
            f"Unknown backbone {name!r}; give one of {', '.join(BACKBONES)}.{suggest(name, BACKBONES)}"
        )
    return name
