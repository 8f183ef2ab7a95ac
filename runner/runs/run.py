"""The life of a run, told once: an object that a template's `main` calls from top to bottom.

    with run.start(config, __package__) as run:
        examples = run.load(load)
        network, blocks = model.build(run.config, examples)
        run.check(network, blocks, examples)
        ...                                           # train, each method on run.checkpoints(name)
        if run.is_chief:
            run.save_network(networks["staged"])      # whatever the judging meets
            test = run.open_test(examples, networks)
            ...                                       # judge
            run.save(examples, fits, ...)
            run.card(...)
            run.report(...)
            run.end(metrics)
        return run.folder

All workers of a cluster go through it together, and the chief alone judges and writes; the others wait for it
at the end. What a template has of its own (its loss, its batches, what it tries before hours of training)
stands between these calls. An exception leaves the folder as it is: a run that is started again goes on. What
only shows results (the card, parts of the report) costs a line where it fails, and not the run.
"""

import contextlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import keras
import pandas as pd
import tensorflow as tf

from runner import atomic, errors, fields, interrupts
from runner.data import remarks, sealed
from runner.data.examples import Data, check_parts
from runner.devices import environment, multi_worker, precision, strategy
from runner.errors import InputError
from runner.moving import batch_norm, rates, trainable
from runner.networks import pretrained, saved
from runner.networks.backbones import Block
from runner.report import card, page, parts, settings, verdict
from runner.runs import folder, lock, loggers
from runner.runs.contract import Examples, Settings
from runner.scores.assessment import Assessment
from runner.stage import Stage
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit

NO_TEST = "this run stops at validation (--no-test)"
ConfigType = TypeVar("ConfigType", bound=Settings)
ExamplesType = TypeVar("ExamplesType", bound=Examples)
Made = TypeVar("Made")


@dataclass(frozen=True)
class Saved:
    """What `Run.save` wrote and the report and the card show again."""

    fitted: Fit
    comparison: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    environment: Mapping[str, Any]
    examples: str
    """How many are in which split, in words."""


@contextlib.contextmanager
def start(config: ConfigType, package: str | None) -> Iterator["Run[ConfigType]"]:
    """Choose the devices and the folder; within the block only the chief prints, and all leave it together.
    The folder is this process's within the block; where no run began in it, it is removed.

    config: a template's Config, with machine, stages, batch_size, backbone and weights.
    package: the template's `__package__`, by whose last part runs/ is divided.

    Call it before anything makes TensorFlow look at its devices: several workers must connect first.
    Raises InputError for a strategy that this machine has not, a logger that is not installed, and a folder
    that cannot be taken.
    """
    loggers.check(config.machine.log)
    chosen = strategy.choose(config.machine.strategy)
    closed = contextlib.nullcontext() if config.machine.test else sealed.kept_closed(NO_TEST)
    with multi_worker.only_chief_prints(chosen), closed:
        try:
            run = Run(config, package or "", chosen)
        except OSError as error:
            raise InputError(f"there is no folder for the run: {errors.in_words(error)}.") from error
        try:
            with interrupts.heard():
                yield run
            multi_worker.wait(chosen)
        except InputError as error:
            raise InputError(f"{error}{run.in_words()}") from error
        except tf.errors.OpError as error:  # what the system refused within TensorFlow, such as a lost file
            found = re.search(r"Unreadable: .*|\[Errno \d+\] .*", str(error))
            if found is None:
                raise
            said = f"{found[0]}: put it back; the same command goes on with {run.folder}.{run.in_words()}"
            raise InputError(said) from error
        except OSError as error:  # a full disk, a folder of somebody else's
            said = f"{errors.in_words(error)}; the same command goes on with {run.folder}.{run.in_words()}"
            raise InputError(said) from error
        except BaseException:
            if said := run.in_words():
                print(said.strip(), file=sys.stderr)
            raise
        finally:
            lock.release(run.folder)


class Run(Generic[ConfigType]):
    """A run of a template, from its Config to its report; `start` makes it."""

    def __init__(self, config: ConfigType, package: str, chosen: tf.distribute.Strategy):
        self.package = package
        self.template = package.rpartition(".")[2]
        self.strategy = chosen
        self.is_chief = multi_worker.is_chief(chosen)
        self.config = strategy.for_all_devices(rates.suited(config), chosen)
        """The Config with the batch size and learning rates of all devices together."""
        self._record = fields.to_dict(config)
        place = config.machine.run_dir
        self.folder = Path(
            multi_worker.from_chief(lambda: str(folder.choose(place, self.template, self._record)), chosen)
        )
        """Where the results go; `check` makes it."""
        self._saved: Saved | None = None
        self._page: Path | None = None
        self._network_saved = False
        self._verdict = ""
        self._failed: list[str] = []

    def load(self, load: Callable[[ConfigType], ExamplesType]) -> ExamplesType:
        """What `load(config)` gives; the chief goes first, so that data which must be prepared is, once.

        Prints the counts, and the precision, which is set for the networks to come.
        """
        with multi_worker.chief_first(self.strategy):
            examples = load(self.config)
        print(examples.in_words())
        print(precision.use(self.config.machine.precision, self.config.backbone))
        return examples

    def check(self, network: keras.Model, blocks: Sequence[Block], examples: Examples) -> None:
        """Print what each stage would train and what was found in the data, and make the folder or go on with
        the run in it; problems.csv is there from then on.

        blocks: of the backbone, bottom first. What a template adds above them may have BatchNorm that learns.
        Raises InputError for a batch that the devices cannot share, a stage that does not fit the blocks,
        BatchNorm of the backbone that would never learn, a split that nothing can be judged by, and a folder
        that another process or other data has.
        """
        if isinstance(examples, Data):
            check_parts(examples)
        strategy.check_batch_size(self.config.batch_size, self.strategy)
        print(trainable.plan(network, blocks, self.config.stages).to_string(index=False))
        batch_norm.check(network, blocks, self.config.weights, self.config.stages)
        goes_on = multi_worker.from_chief(
            lambda: folder.begin(self.folder, self._record, examples.manifest), self.strategy
        )
        print(f"run folder: {self.folder}" + (" (an unfinished run, which goes on)" if goes_on else ""))
        if self.is_chief:  # now, so that nobody waits for the end of the training to read it
            atomic.write_csv(self.folder / "problems.csv", remarks.graded(examples.problems))
        print(*remarks.in_words(examples.problems, str(self.folder / "problems.csv")), sep="\n")

    def checkpoints(self, name: str) -> Checkpointing:
        """Where the training of one method keeps its state, how often, and which loggers hear of it."""
        machine = self.config.machine
        return Checkpointing(
            self.folder / "checkpoints" / name.replace(" ", "_"),
            machine.checkpoint_steps,
            machine.checkpoint_minutes,
            loggers.make(machine.log, self.folder, name, self.package, self._record) if self.is_chief else (),
        )

    def open_test(self, data: Data, methods: Iterable[str]) -> tf.data.Dataset:
        """The dataset of `data.test`, whose opening is written down in test_readings.csv.

        It is the one door to the test split: open it when nothing is left to choose. Raises InputError in a
        run with `--no-test`, which `stop_at_validation` ends before.
        methods: the names of those whose numbers it is opened for.
        """
        return data.test.open(
            self.folder / "test_readings.csv",
            f"final numbers of {', '.join(methods)}; {data.unit} shown in the report",
        )

    def save_network(
        self, network: keras.Model, finish: Callable[[keras.Model], keras.Model] = lambda network: network
    ) -> None:
        """Write model.keras, which the run hands out; call it before anything is judged.

        finish: makes of the network what is saved, such as one for pictures of any size.
        """
        atomic.write(self.folder / "model.keras", finish(saved.without_own_loss(network)).save)
        self._network_saved = True

    def save(
        self,
        examples: Examples,
        fits: Mapping[str, Fit],
        *,
        method: str = "staged",
        comparison: pd.DataFrame,
        per_class: pd.DataFrame,
        predictions: pd.DataFrame,
        **more: pd.DataFrame | None,
    ) -> None:
        """Write the tables of `method`, whose network the run hands out, under the names of all runs.

        fits: of every method that was trained; one that stands twice is counted once.
        more: further tables by the names of their files without .csv; None is left out.
        """
        tables = {"per_class": per_class, "predictions": predictions}
        tables |= {name: table for name, table in more.items() if table is not None}
        described, words = self._write_tables(examples, fits, method, comparison, tables), examples.in_words()
        self._saved = Saved(fits[method], comparison, tables, described, words.replace("\n", "; "))

    def _write_tables(
        self,
        examples: Examples,
        fits: Mapping[str, Fit],
        method: str,
        comparison: pd.DataFrame,
        tables: Mapping[str, pd.DataFrame],
    ) -> dict[str, Any]:
        """Write what every run leaves beside its numbers, and return what environment.json says."""
        if not self._network_saved:
            raise RuntimeError("call `save_network` before the judging, which may fail.")
        took = sum(fitted.seconds for fitted in {id(one): one for one in fits.values()}.values())
        described = environment.describe(training_seconds=took) | {"template": self.package}
        atomic.write_json(self.folder / "environment.json", described)
        atomic.write_csv(self.folder / "problems.csv", remarks.graded(examples.problems))
        curves = {name: curve.assign(stage=name) for name, curve in fits[method].range_tests.items()}
        searched = {"range_tests": pd.concat(curves.values(), ignore_index=True)} if curves else {}
        for name, table in {
            "history": fits[method].history,
            "ledger": fits[method].ledger,
            "comparison": comparison,
            **searched,
            **tables,
        }.items():
            atomic.write_csv(self.folder / f"{name}.csv", table)
        return described

    def attempt(self, name: str, write: Callable[[], Made]) -> Made | None:
        """What `write` gives; where it fails None, and a line in the report and at the end.

        For what shows results or helps later, without which the run is still one. A disk that takes nothing
        more is no such failure: OSError is raised on.
        """
        try:
            return write()
        except OSError:
            raise
        except Exception as error:  # whatever a drawing may raise: hours of training are worth more
            self._failed.append(parts.in_words(name, error))
            return None

    def report(self, name: str, *, question: str, data: Any, **shown: Any) -> Path | None:
        """Write report.html about what `save` wrote and return its path.

        name: of the data, for the title; question, data, shown: see `page.write`. Where even the page without
        the template's own parts cannot be made, None.
        """
        saved = self._given()

        def write(**shown: Any) -> Path:
            return page.write(
                self.folder / "report.html",
                title=f"{self.template.replace('_', ' ').capitalize()}: {name}",
                question=question,
                data=data,
                stages=self._stages,
                history=saved.fitted.history,
                ledger=saved.fitted.ledger,
                comparison=saved.comparison,
                environment=dict(saved.environment),
                settings=self._settings,
                statistics_anew=saved.fitted.statistics_anew,
                by_averages=saved.fitted.by_averages,
                range_tests=saved.fitted.range_tests,
                failed=self._failed,
                **shown,
            )

        bare = {"pictures": {}} | ({"score": shown["score"]} if "score" in shown else {})
        self._page = self.attempt("report.html", lambda: write(**shown))
        self._page = self._page or self.attempt("report.html", lambda: write(**bare))
        return self._page

    @property
    def _stages(self) -> Sequence[Stage]:
        """The stages of what is handed out, as they ran: none where it was not trained and has no ledger."""
        fitted = self._given().fitted
        return fitted.stages or (self.config.stages if len(fitted.ledger) else ())

    def _settings(self) -> dict:
        """What the page says of the settings."""
        saved = self._given()
        return settings.of_run(
            self._record,
            fields.to_dict(type(self.config)()),
            weights=pretrained.in_words(self.config.weights),
            examples=saved.examples,
            environment=saved.environment,
        )

    def card(
        self, task: card.Task, *, data: Mapping[str, Any], metrics: dict, assessed: Assessment | None = None
    ) -> Path | None:
        """Write MODEL_CARD.md about what `save` wrote and return its path; see `card.write`.

        Where it cannot be made, the card is a line that says why, and None is returned.
        """
        saved = self._given()
        path = self.folder / "MODEL_CARD.md"
        told = self.attempt("verdict", lambda: verdict.in_words(saved.comparison, metrics, task.score))
        self._verdict = told or ""
        written = self.attempt(
            path.name,
            lambda: card.write(
                path,
                task=task,
                config=fields.to_dict(self.config),
                stages=self._stages,
                data=data,
                comparison=saved.comparison,
                metrics=metrics,
                per_class=saved.tables["per_class"],
                assessed=assessed,
                environment=dict(saved.environment),
                history=saved.fitted.history,
                ledger=saved.fitted.ledger,
            ),
        )
        if written is None:
            said = f"# {task.title}\n\nThis card could not be made; the numbers are in metrics.json.\n"
            atomic.write(path, lambda temporary: temporary.write_text(said, encoding="utf-8"))
        return written

    def stop_at_validation(
        self,
        examples: Examples,
        fits: Mapping[str, Fit],
        comparison: pd.DataFrame,
        *,
        method: str = "staged",
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """End a run with `--no-test`: its tables, and metrics.json with what `method` has on validation.

        comparison: a row per method with its numbers on validation, which stand in metrics.json without
        "val_", beside its `Fit.value` as "monitor" and `more`. There is no card and no page: of a test.
        """
        self._write_tables(examples, fits, method, comparison, {})
        row = comparison[comparison["method"] == method].drop(columns="seconds").to_dict("records")[0]
        numbers = {name: one for name, one in row.items() if isinstance(one, float) and one == one}
        validation = {name.removeprefix("val_"): one for name, one in numbers.items()}
        validation |= {"monitor": fits[method].value}
        record = {"classes": list(examples.classes), "method": method, "test": {}, **(more or {})}
        atomic.write_json(self.folder / "metrics.json", record | {"validation": validation})
        folder.end(self.folder)
        _show(comparison)
        print(f"the test was not opened (--no-test); results: {self.folder}")

    def end(self, metrics: dict[str, Any], notes: Sequence[str] = ()) -> None:
        """Write metrics.json, with which the run is complete; print the comparison, first of all where
        transfer did not pay, notes and the report.

        metrics: {"classes": names, "test": numbers of the method that is handed out, ...}, plain JSON types.
        """
        saved = self._given()
        atomic.write_json(self.folder / "metrics.json", metrics)
        folder.end(self.folder)
        if self._verdict:
            print(self._verdict)
        _show(saved.comparison)
        for note in (*notes, *(f"could not be made: {line}" for line in self._failed)):
            print(note)
        if self._page is not None:
            print(f"report: {self._page}")

    def in_words(self) -> str:
        """What is there of a run that failed while it was judged, as a sentence to add to a message."""
        if not self._network_saved or (self.folder / "metrics.json").is_file():
            return ""
        return f" The trained network is {self.folder / 'model.keras'}; the same command judges it again."

    def _given(self) -> Saved:
        if self._saved is None:
            raise RuntimeError("the report, the card and the end show what `save` wrote: call it first.")
        return self._saved


def _show(comparison: pd.DataFrame) -> None:
    comparison = comparison.drop(columns=["pretrained", "recipe"], errors="ignore")
    print(comparison.to_string(index=False, float_format=lambda number: f"{number:.3f}"))
