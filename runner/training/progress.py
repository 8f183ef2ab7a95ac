"""What hears of a training while it runs. What a person sees of it: a bar that moves in a terminal, plain
lines in a log.

Everywhere the first and the last epoch of each stage get a line, and so do epochs in between, with some
seconds from line to line: fast epochs don't make a hundred lines, slow ones are all there. A terminal also
has a bar, and a notebook a line above the others, with the running epoch and the last validation accuracy.
Rich's own bar would need ipywidgets in a notebook, and a front end that knows them. And callbacks of one's
own, which hear of one fit where there is one for each stage (`AcrossFits`).
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from runner.training.stages import StagedUnfreezing


class EpochLines(keras.callbacks.Callback):
    """Pass it to `model.fit(..., verbose=0)` beside `StagedUnfreezing`, whose stage names it shows.

    Args:
        staged: the callback that runs the stages; list it before this one.
        title: printed before the first epoch.
        console: a Rich console; the default writes to standard output.
        seconds_between_lines: the least time between two lines of one stage; None means 3 in a terminal and
            15 elsewhere.
    """

    def __init__(
        self,
        staged: StagedUnfreezing,
        title: str = "",
        console: Console | None = None,
        seconds_between_lines: float | None = None,
    ):
        super().__init__()
        self.staged, self.title = staged, title
        # Without a fixed width Rich takes a log file to be 80 columns wide and breaks our lines.
        self.console = console or Console(
            file=sys.stdout, width=None if sys.stdout.isatty() else 140, highlight=False
        )
        if seconds_between_lines is None:
            seconds_between_lines = 3.0 if self.console.is_terminal else 15.0
        self.seconds_between_lines = seconds_between_lines
        self.bar: Progress | None = None
        self.note: Any = None  # IPython's handle of what it displays
        self.started = 0.0  # before the first fit
        self.stage_name: str | None = None
        self.remark = ""  # printed below the next line

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.last_line = self.last_note = time.perf_counter()
        if self.started and self.staged.only:
            return  # a fit of its own for the next stage, of what is shown already
        self.started = self.last_line
        self.stage_name = None
        self.validation = ""
        if self.console.is_jupyter:
            from IPython import display

            self.note = display.display(display.Pretty("starting"), display_id=True)
        self.show_title()
        if self.console.is_terminal and not self.console.is_jupyter:
            self.bar = Progress(
                TextColumn("  {task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task("", total=self.staged.epochs)

    def show_title(self) -> None:
        """Print the title, once; what comes before the first epoch may take minutes."""
        if self.title:
            self._line(f"[bold]{self.title}[/bold]")
        self.title = ""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch_started = time.perf_counter()
        stage = self.staged.stage
        if stage.name != self.stage_name:
            self.stage_name = stage.name
            count = sum(int(variable.value.shape.num_elements()) for variable in self.staged.to_train)
            self._line(
                f"  stage [bold]{stage.name}[/bold]: trains {stage.train} ({count:,} weights), "
                f"up to {stage.epochs} epoch{'s' * (stage.epochs != 1)}, learning rate {stage.rate:g} "
                f"({stage.schedule})"
            )
            self._print_remark()

    def _print_remark(self) -> None:
        if self.remark:
            self._line(f"    {self.remark}")
        self.remark = ""

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if not self.staged.steps:
            return
        text = f"stage {self.stage_name}, epoch {self.staged.stage_epoch + 1}{self.validation}"
        completed = self._epochs_before() + (batch + 1) / self.staged.steps
        if self.bar:
            self.bar.update(self.task, completed=completed, description=text)
        now = time.perf_counter()
        if self.note and now - self.last_note > 0.5:  # each update is a message to the browser
            self.last_note = now
            self._note(f"{completed / self.staged.epochs:.0%} of {self.staged.epochs} epochs; {text}")

    def _note(self, text: str) -> None:
        from IPython import display

        self.note.update(display.Pretty(text))

    def _epochs_before(self) -> int:
        """Epochs behind us, counting a stage that ended early as if it had run to its end."""
        return (
            sum(stage.epochs for stage in self.staged.stages[: self.staged.index]) + self.staged.stage_epoch
        )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        row, now = self.staged.rows[-1], time.perf_counter()
        ended = (
            self.staged.entering or self.model.stop_training or row["stage_epoch"] == self.staged.stage.epochs
        )
        if "val_accuracy" in row:
            self.validation = f", validation accuracy {row['val_accuracy']:.3f}"
        if not ended and row["stage_epoch"] > 1 and now - self.last_line < self.seconds_between_lines:
            return
        self.last_line = now
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
        self._line(
            f"    {row['stage']} {row['stage_epoch']:>3}/{self.staged.stage.epochs}  {numbers}  "
            f"{now - self.epoch_started:.1f} s"
        )
        self._print_remark()
        if ended and not any(one["handed_on"] for one in self.staged.rows[-row["stage_epoch"] :]):
            self._line(
                f"    [bold]stage {row['stage']} bettered nothing on validation[/bold]; what it received is "
                f"handed on. A lower learning rate ({self.staged.stage.rate / 10:.2g}) may help."
            )

    def _line(self, text: str) -> None:
        if self.console.is_jupyter:  # Rich would make a block of its own, with a margin, of every line
            print(Text.from_markup(text).plain)
        else:
            self.console.print(text)

    def close(self) -> None:
        """Give the terminal back; `fit` ends its callbacks' work only when nothing was raised."""
        if self.bar:
            self.bar.stop()

    def on_train_end(self, logs: dict | None = None) -> None:
        if self.staged.goes_on:
            return
        self.close()
        if self.note:
            self._note(f"{len(self.staged.rows)} epochs{self.validation}")
        self._line(f"  done in {time.perf_counter() - self.started:.1f} s")


class EpochSeconds(keras.callbacks.Callback):
    """Wall time of each epoch, validation included, in `seconds`; epochs of an earlier fit stay in it."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds.append(round(time.perf_counter() - self.started, 4))


class AfterStages(keras.callbacks.Callback):
    """Tells of each stage that ends, while the network has the weights that the stage hands on.

    Args:
        staged: the callback that runs the stages; list it before this one.
        whole: the network, also where a stage's fit is of a part of it.
        tell: called with the stage's name and `whole`; not of stages that had ended when this was made.
    """

    def __init__(
        self, staged: StagedUnfreezing, whole: keras.Model, tell: Callable[[str, keras.Model], None]
    ):
        super().__init__()
        self.staged, self.whole, self.tell = staged, whole, tell
        self.told = len(staged.ledgers)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if len(self.staged.ledgers) > self.told:
            self.told = len(self.staged.ledgers)
            self.tell(self.staged.stage.name, self.whole)


class AcrossFits(keras.callbacks.Callback):
    """Callbacks that hear of one fit of one network where each stage has a fit of its own, on the part of the
    network that it trains (`FrozenPrefix`).

    They begin with the first fit and end with the last; their `model` is the whole network, which shares its
    layers with the part, and has its optimizer. What stops the whole stops the training.

    Args:
        callbacks: in the order in which they are told.
        whole: the network.
        staged: the callback that runs the stages; list it before this one.
    """

    def __init__(
        self, callbacks: Sequence[keras.callbacks.Callback], whole: keras.Model, staged: StagedUnfreezing
    ):
        super().__init__()
        self.callbacks, self.whole, self.staged = list(callbacks), whole, staged
        self.begun = False

    def _tell(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(*arguments)
        if self.whole.stop_training:
            self.model.stop_training = self.staged.stopped = True

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.whole.optimizer, self.whole.stop_training = self.model.optimizer, False
        if self.begun:
            return
        self.begun = True
        for callback in self.callbacks:
            callback.set_params(self.params)
            callback.set_model(self.whole)
        self._tell("on_train_begin", logs)

    def on_train_end(self, logs: dict | None = None) -> None:
        if not self.staged.goes_on:
            self._tell("on_train_end", logs)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._tell("on_epoch_begin", epoch, logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._tell("on_epoch_end", epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._tell("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._tell("on_train_batch_end", batch, logs)

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._tell("on_test_begin", logs)

    def on_test_end(self, logs: dict | None = None) -> None:
        self._tell("on_test_end", logs)

    def on_test_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._tell("on_test_batch_begin", batch, logs)

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._tell("on_test_batch_end", batch, logs)
