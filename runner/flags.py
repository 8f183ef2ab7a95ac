"""A template's `Config` becomes flags; mistakes are answered in one line.

`run(main, Config)` turns the fields of a frozen dataclass into flags with tyro, calls `main(config)` and
answers every `InputError` with one line and exit code 2.
"""

import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from runner import interrupts
from runner.errors import CollapseError, DivergenceError, InputError, LedgerError, OutOfMemory, in_words
from runner.fields import ConfigType, load


def parse(
    Config: type[ConfigType], arguments: Sequence[str] | None = None, description: str | None = None
) -> ConfigType:
    """Turn command-line flags into a Config.

    Every field is a flag (`--image-size 160 --stages.1.epochs 3`). `--config FILE` starts from a JSON file
    instead of the defaults; that is also how the number of stages changes. Raises InputError for what
    cannot be parsed and SystemExit(0) after `--help`.
    """
    import tyro

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    default = None
    for index, argument in enumerate(arguments):
        if argument == "--config" or argument.startswith("--config="):
            inline = argument.partition("=")[2]
            if not inline and index + 1 >= len(arguments):
                raise InputError(
                    "--config needs the path of a JSON file, for example --config runs/mine/config.json."
                )
            default = load(inline or arguments[index + 1], Config)
            del arguments[index : index + (1 if inline else 2)]
            break
    complaint = io.StringIO()
    options: dict[str, Any] = {} if default is None else {"default": default}
    description = (
        description or Config.__doc__ or ""
    ) + "\n\n--config FILE: start from this JSON file (a run's config.json)."
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(Config, args=arguments, description=description, **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        # tyro draws a box around its answer; as one line it also reads well in a log.
        text = re.sub(r"[╭╮╰╯│─]+", " ", complaint.getvalue()).split("For full helptext")[0]
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        raise InputError(f"{' '.join(lines[1:] or lines)} (--help lists every flag)") from None


def run(
    main: Callable[[ConfigType], Any], Config: type[ConfigType], arguments: Sequence[str] | None = None
) -> None:
    """Entry point of a template: parse the flags, call `main(config)`; exit code 2 and one line for an
    InputError.
    """
    with exit_on_input_error():
        main(parse(Config, arguments))


@contextlib.contextmanager
def exit_on_input_error() -> Iterator[None]:
    """Print an InputError, or an OSError, as one line on standard error and leave with exit code 2; a
    LedgerError, a DivergenceError, a CollapseError or OutOfMemory with 1. SIGTERM is a line and 143, Ctrl-C
    one and 130.
    """
    try:
        with interrupts.ends_in_order():
            yield
    except (InputError, LedgerError, DivergenceError, CollapseError, OutOfMemory) as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, InputError) else 1) from None
    except OSError as error:  # a full disk, a pipe that nobody reads any more
        print(f"error: {in_words(error)}.", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        raise SystemExit(130) from None  # 128 + SIGINT, as shells have it
