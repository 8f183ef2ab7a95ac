"""The settings of a run as people read them: under the names of their flags, beside the defaults."""

import json
from collections.abc import Mapping
from typing import Any

AMOUNTS = ("labels_per_class", "train_examples")
"""Settings whose "all" is null in older records."""


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested settings under the names of their flags: stages.0.epochs."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        parts = ((str(index), item) for index, item in enumerate(value))
    elif name in AMOUNTS and value is None:
        return {name: "all"}
    else:
        return {name: value}
    return {
        inner: leaf
        for key, item in parts
        for inner, leaf in flat(item, f"{name}.{key}" if name else key).items()
    }


def shown(value: Any) -> str:
    """A value as a person would write it behind the flag."""
    if isinstance(value, list):
        return " ".join(map(shown, value))
    return json.dumps(value) if value is None or isinstance(value, bool) or value == "" else str(value)


def differing(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(setting, its value, the default) of those that differ, all in plain JSON types; "–" for what one of
    both does not have, such as a further stage. The run folder is no setting.
    """
    ours, given = flat(dict(config)), flat(dict(defaults))
    missing = object()

    def told(settings: Mapping[str, Any], name: str) -> str:
        return shown(settings[name]) if name in settings else "–"

    return [
        (name, told(ours, name), told(given, name))
        for name in dict.fromkeys([*ours, *given])
        if name not in ("run_dir", "log") and ours.get(name, missing) != given.get(name, missing)
    ]


def of_run(
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    weights: str,
    examples: str,
    environment: Mapping[str, Any],
) -> dict:
    """What the page shows of the settings: a line, facts (name, value), and what differs from the defaults.

    config, defaults: plain JSON types. weights: where they are from, in words. examples: how many are in
    which split, in words. environment: of `environment.describe`.
    """
    changed = differing(config, defaults)
    number = {0: "all others are the defaults", 1: "one setting differs from its default"}.get(
        len(changed), f"{len(changed)} settings differ from their defaults"
    )
    size = config.get("image_size")
    facts = {
        "Seed": config.get("seed"),
        "Backbone": config.get("backbone"),
        "Weights": weights,
        "Picture size": f"{size} x {size} pixels" if size else None,
        "Examples": examples,
        "Batch size": config.get("batch_size"),
        "Versions": ", ".join(
            f"{name} {environment[key]}"
            for key, name in (("python", "Python"), ("tensorflow", "TensorFlow"), ("keras", "Keras"))
            if environment.get(key)
        ),
        "Precision": environment.get("precision"),
        "Code": environment.get("commit"),
        "Command": environment.get("command"),
    }
    line = [f"seed {config['seed']}" if "seed" in config else "", str(config.get("backbone") or ""), number]
    return {
        "line": ", ".join(part for part in line if part),
        "facts": [(name, str(value)) for name, value in facts.items() if value not in (None, "")],
        "changed": changed,
    }
