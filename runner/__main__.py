"""`python -m runner COMMAND`: what the runner does beside training.

Each command imports what it needs when it is called, so that `--help` answers at once.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from runner.errors import InputError, in_words, suggest
from runner.flags import exit_on_input_error

REPOSITORY = Path(__file__).resolve().parent.parent


class Parser(argparse.ArgumentParser):
    """argparse that leaves the printing of mistakes to `exit_on_input_error`, one line for each."""

    commands: tuple[str, ...] = ()
    """Names, of the whole command line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; `{self.prog} --help` shows what can be given.")


def new(options: argparse.Namespace) -> int:
    from runner import new

    given = options.template, options.destination, options.data, options.backbone
    project = new.new(*given, rank=options.rank)
    package = new.package_name(project.name)
    print(f"Made {project} from the template {options.template}. Next:\n")
    print(f"  cd {project}\n  pip install -r requirements.txt\n  python -m {package}.train\n")
    print(f"Its settings are in {package}/config.py; README.md says how to train it on your own data.")
    return 0


def list_backbones(options: argparse.Namespace) -> int:
    from runner.networks import backbones

    rows = backbones.table()
    heads = list(rows[0])
    cells = [
        [f"{row[head]:,}" if isinstance(row[head], int) else str(row[head]) for head in heads] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for line in [heads, *cells]:
        # Numbers line up on the right, words on the left.
        fields = [
            cell.rjust(width) if isinstance(rows[0][head], int) else cell.ljust(width)
            for cell, width, head in zip(line, widths, heads, strict=True)
        ]
        print("  ".join(fields).rstrip())
    return 0


def doctor(options: argparse.Namespace) -> int:
    from runner import quiet

    quiet.import_tensorflow()
    from runner.devices import doctor

    return doctor.run(gpu=options.gpu)


def launch(options: argparse.Namespace) -> int:
    from runner.devices import launch

    return launch.run(
        options.module,
        options.workers,
        hosts=options.hosts.split(",") if options.hosts else (),
        host_index=options.host_index,
        port=options.port,
        restarts=options.restarts,
        grace=options.grace,
        input_workers=options.input_workers,
    )


def predict(options: argparse.Namespace) -> int:
    from runner import quiet
    from runner.runs import folder, template

    # A wrong folder is answered before TensorFlow's seconds.
    package = template.find(options.run, folder.read_complete(options.run))
    quiet.import_tensorflow()
    from runner.runs import predict

    predict.check(options.output, options.batch_size)
    train = template.train(package, "predict")
    result = predict.run(train, options.run, options.inputs, options.output, options.batch_size)
    if result.only is not None and result.predicted:
        print(predict.in_words(result.only))
    print(f"{result.predicted} predicted; {result.output} has {result.rows} rows.")
    if result.folder is not None:
        print(f"beside it: {result.folder}")
    if result.number_unreadable:
        print(f"{result.number_unreadable} could not be read (column note says why):", file=sys.stderr)
        print(*result.unreadable, sep="\n", file=sys.stderr)
        if result.number_unreadable > len(result.unreadable):
            print("...", file=sys.stderr)
    return 0 if result.predicted else 1


def evaluate(options: argparse.Namespace) -> int:
    from runner import quiet
    from runner.runs import folder, template

    package = template.find(options.run, folder.read_complete(options.run))
    quiet.import_tensorflow()
    from runner.runs import evaluate

    train = template.train(package, "judge", "tables")
    result = evaluate.run(train, template.config_class(package), options.run, options.data, options.output)
    print(result.in_words())
    if result.seen:
        print(f"{len(result.seen)} of them the run was trained or validated on, such as {result.seen[0]}")
    print(*result.remarks, sep="\n")
    print(f"page: {result.page}")
    return 0


def compare(options: argparse.Namespace) -> int:
    from runner.runs import compare

    compare.run(options.runs, options.output)
    return 0


def tune(options: argparse.Namespace) -> int:
    from runner.tuning import tune
    from runner.tuning.options import Options

    return tune.run(options.template, Options.of(options), options.flags)


def seeds(options: argparse.Namespace) -> int:
    from runner.tuning import seeds

    return seeds.run(options.template, options.seeds, options.name, options.flags)


def export(options: argparse.Namespace) -> int:
    from runner import quiet
    from runner.runs import folder

    # A wrong folder is answered before TensorFlow's seconds.
    record = folder.read_complete(options.run)
    quiet.import_tensorflow()
    if "image_size" in record:
        from runner.picture_runs import export

        found = export.run(options.run, options.format, options.output)
    elif {"zeros_missing", "policy_cost"} & set(record):  # what templates on tables have
        from runner.table_runs import export as export_of_tables

        found = export_of_tables.run(options.run, options.format, options.output)
    elif "beams" in record:
        from runner.text_runs import translate_export

        found = translate_export.run(options.run, options.format, options.output)
    else:
        from runner.text_runs import export as export_of_texts

        found = export_of_texts.run(options.run, options.format, options.output)
    for path, difference in found.items():
        print(f"{path}: logits differ from predict's by at most {difference:.1e} of the largest")
    return 0


def shift(options: argparse.Namespace) -> int:
    from runner import quiet
    from runner.runs import folder

    # A wrong folder is answered before TensorFlow's seconds.
    record = folder.read_complete(options.run)
    quiet.import_tensorflow()
    if "image_size" in record:
        from runner.picture_runs import shift as shift_of_pictures

        page = shift_of_pictures.run(options.run, options.data, options.batch_size)
    elif "length" in record:
        from runner.text_runs import shift as shift_of_texts

        page = shift_of_texts.run(options.run, options.data, options.batch_size)
    else:
        raise InputError(
            f"shift {options.run}: this run is on neither pictures nor texts, whose features are what is "
            "compared; label some of the new data and `evaluate` the run on it."
        )
    print(json.loads((page.parent / "shift.json").read_text(encoding="utf-8"))["verdict"])
    print(f"page: {page}")
    return 0


def rank(options: argparse.Namespace) -> int:
    from runner import quiet
    from runner.choosing import options as of_rank

    given = of_rank.given(options)
    quiet.import_tensorflow()
    from runner.choosing import rank

    print(f"page: {rank.run(**given)}")
    return 0


def parser(repository: Path = REPOSITORY) -> Parser:
    """Return the command line; a copied-out project lacks `new`, and commands whose wing it does without."""
    top = Parser(prog="python -m runner", description="What the runner does beside training.")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=Parser)

    def add(name: str, wing: str, **options) -> argparse.ArgumentParser:
        if (Path(__file__).parent / wing).is_dir():
            return commands.add_parser(name, **options)
        return Parser()  # takes the arguments that follow, and is no part of the command line

    if (repository / "templates" / "cookiecutter.json").is_file():
        make = commands.add_parser(
            "new",
            help="copy a template into a project of your own",
            description="Copy a template, and all it needs, into a project of your own.",
        )
        make.add_argument(
            "template", metavar="TEMPLATE", help="a folder of templates/, such as image_classification"
        )
        make.add_argument(
            "destination", metavar="DEST", help="folder to make; its name becomes the package's"
        )
        make.add_argument(
            "--data",
            default="",
            help="folder, CSV manifest or data set to train on, all its labels (default: the template's)",
        )
        make.add_argument(
            "--backbone", default="", metavar="NAME", help="a name from `python -m runner backbones`"
        )
        make.add_argument("--rank", default="", help="a ranking's folder: start from its first source")
        make.set_defaults(call=new)
    add("backbones", "networks", help="list the pretrained networks and their sizes").set_defaults(
        call=list_backbones
    )
    make = add("doctor", "devices", help="check this machine and say what training will run on")
    make.add_argument("--gpu", action="store_true", help="fail unless TensorFlow can use a GPU")
    make.set_defaults(call=doctor)
    from runner.devices import options as of_launch

    make = add(
        "launch",
        "devices",
        help="train with several processes, on this host or on several",
        description="Start workers that train together, pass on what they print, and end all when one fails.",
        usage="python -m runner launch --workers N [OPTIONS] -m MODULE [FLAGS OF MODULE]",
    )
    of_launch.add(make)
    make.set_defaults(call=launch)
    run = argparse.ArgumentParser(add_help=False)
    run.add_argument("run", metavar="RUN", help="folder of a complete run, such as runs/TEMPLATE/mine")
    make = add(
        "predict",
        "runs",
        parents=[run],
        help="predict inputs of your own with a run, into a CSV file",
        description="Write a CSV file with the answer to each input, and beside it a folder with what is "
        "drawn or written of it: boxes on pictures, masks, texts with the places of entities.",
    )
    make.add_argument(
        "inputs",
        metavar="INPUTS",
        nargs="+",
        help="what the template takes: picture files, texts in files, tables or quotes, folders of any depth",
    )
    make.add_argument("--output", default="predictions.csv", help="the file to write (default: %(default)s)")
    make.add_argument("--batch-size", type=int, default=64, help="inputs per step (default: %(default)s)")
    make.set_defaults(call=predict)
    make = add(
        "evaluate",
        "runs",
        parents=[run],
        help="judge a run on labelled data that is new to it",
        description="Write tables and a page about how good a run is on other labelled data; nothing is "
        "trained. Of data with a test split that is judged, of any other everything is.",
    )
    make.add_argument("data", metavar="DATA", help="labelled data, in any form that the template takes")
    make.add_argument(
        "--output", default=None, metavar="FOLDER", help="folder to make (default: RUN/evaluate/NAME)"
    )
    make.set_defaults(call=evaluate)
    make = add(
        "compare",
        "runs",
        help="put runs side by side: settings, scores, paired differences, cost",
        description="Say how complete runs of one template differ, here and on a page, compare.html.",
    )
    make.add_argument("runs", metavar="RUN", nargs="+", help="folders of two or more complete runs")
    make.add_argument(
        "--output", default=None, metavar="FOLDER", help="folder for the page (default: beside the first run)"
    )
    make.set_defaults(call=compare)
    of_kind = "picture_runs" if (Path(__file__).parent / "picture_runs").is_dir() else "text_runs"
    make = add(
        "shift",
        of_kind,
        parents=[run],
        help="say how far new pictures or texts lie from those a run was trained on",
        description="Compare new pictures or texts with a run's training data, and write a page about it.",
    )
    make.add_argument(
        "data",
        metavar="DATA",
        help="a folder of pictures, in folders of any depth; of texts also a file or a table; no labels",
    )
    make.add_argument("--batch-size", type=int, default=64, help="examples per step (default: %(default)s)")
    make.set_defaults(call=shift)
    if (Path(__file__).parent / "tuning").is_dir():
        from runner.tuning.options import add_seeds, add_tune

        make = add(
            "tune",
            "tuning",
            allow_abbrev=False,
            usage="python -m runner tune TEMPLATE [OPTIONS] [FLAGS OF THE TEMPLATE]",
            help="search settings of a template on validation, then test the best and the default once",
            description="Run trials of a template, which can open no test, with settings from its space.py; "
            "then train and test the default and the best once. The same command goes on with its study.",
        )
        add_tune(make)
        make.set_defaults(call=tune, takes_flags=True)
        make = add(
            "seeds",
            "tuning",
            allow_abbrev=False,
            usage="python -m runner seeds TEMPLATE [OPTIONS] [FLAGS OF THE TEMPLATE]",
            help="run a template from several seeds: mean, spread, paired differences",
            description="Make a complete run for each seed in one folder, and say how much the seed decides. "
            "The same command goes on with what is not complete.",
        )
        add_seeds(make)
        make.set_defaults(call=seeds, takes_flags=True)
    if (Path(__file__).parent / "choosing").is_dir():
        from runner.choosing import options as of_rank

        make = add(
            "rank",
            "choosing",
            help="say which pretrained network to start from, before anything is trained",
            description="Score sources by their frozen features of the training and validation examples, "
            "and say how far such scores can be trusted. The test stays sealed.",
        )
        of_rank.add(make)
        make.set_defaults(call=rank)
    make = add(
        "export",
        of_kind if (Path(__file__).parent / of_kind).is_dir() else "table_runs",
        parents=[run],
        help="write the model of a run as SavedModel, LiteRT or ONNX",
        description="Write the model of a run, compare it with `predict`, and say what makes a class of it.",
    )
    make.add_argument(
        "--format",
        nargs="+",
        default=["savedmodel"],
        metavar="FORMAT",
        help="savedmodel, litert, onnx (default: savedmodel)",
    )
    make.add_argument("--output", default=None, help="folder for the results (default: RUN/export)")
    make.set_defaults(call=export)
    top.commands = tuple(commands.choices)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; mistakes raise InputError."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    top = parser()
    if not arguments:
        top.print_help()
        return 0
    if not arguments[0].startswith("-") and arguments[0] not in top.commands:
        raise InputError(
            f"There is no command '{arguments[0]}'; there are: {', '.join(top.commands)}."
            + suggest(arguments[0], top.commands)
        )
    options, rest = top.parse_known_args(arguments)
    if rest and not getattr(options, "takes_flags", False):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    options.flags = rest
    try:
        return options.call(options)
    except OSError as error:  # a full disk, a folder of somebody else's
        raise InputError(f"{in_words(error)}, or name another place.") from error


if __name__ == "__main__":
    with exit_on_input_error():
        sys.exit(main())
