"""`python -m runner tune`: search settings of a template on validation, then test default and best once.

    python -m runner tune templates.image_classification --trials 30 --batch-size 16

A study has a folder: study.db (Optuna's), trial_0000/ ... (runs that stop at validation) with their logs,
trials.csv, tested/ (complete runs of the default and of the best) and tuning.html. The same command goes on
with it.
"""

import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from runner import atomic, fields, flags, quiet
from runner.errors import CollapseError, DivergenceError, InputError, OutOfMemory, suggest
from runner.runs import folder as run_folders
from runner.runs import lock, template
from runner.tuning import space as spaces
from runner.tuning.options import RANKED, TRIALS, Options


def find(name: str) -> str:
    """The package of a template by its name or the last part of it; InputError where there is none."""
    known = template.packages()
    fitting = [one for one in known if name in (one, one.rpartition(".")[2])]
    if not fitting:
        raise InputError(
            f"There is no template '{name}'; there are: {', '.join(known)}.{suggest(name, known)}"
        )
    return fitting[0]


def base(package: str, arguments: Sequence[str]) -> Any:
    """The Config of the flags, from which a study or several seeds begin; its run_dir is theirs to say."""
    config = flags.parse(template.config_class(package), arguments)
    if config.machine.run_dir:
        raise InputError(f"--run-dir {config.machine.run_dir}: several runs get folders of their own.")
    if config.machine.strategy == "multi_worker" or "TF_CONFIG" in os.environ:
        raise InputError(
            "several workers that train one network together are for a run of its own: `launch`."
        )
    return config


def space_of(package: str, config: Any, options: Options, arguments: Sequence[str]) -> spaces.Space:
    """The template's space with what the command line says of it: ranges of its own, fields that are fixed.

    A field for which there is a flag of the template is fixed by it. Raises InputError for a template without
    a space, and for a range that its Config refuses.
    """
    try:
        space = importlib.import_module(f"{package}.space").SPACE
    except ModuleNotFoundError as error:
        if error.name != f"{package}.space":
            raise
        raise InputError(
            f"{package} has no space.py; write one with SPACE = Space({{...}}), see docs/tuning.md."
        ) from error
    space = spaces.without(space, options.fix)
    space = spaces.without(space, spaces.named_by(arguments), known=False)
    own = dict(spaces.parse(one, config) for one in options.space)
    for path in own:
        space = spaces.without(space, [path], known=False)
    if options.rank:
        named = {"backbone", "weights"} & set(spaces.named_by(arguments))
        if named:
            raise InputError(
                f"--rank {options.rank} and --{named.pop()} both say where to start from; leave one out."
            )
        space = spaces.without(space, ["backbone", "weights"], known=False)
        own["backbone weights"] = spaces.Choice(ranked(options.rank))
    space = spaces.Space({**space.ranges, **own}, space.objective, space.direction)
    spaces.check(space, config)
    return space


def ranked(folder: str) -> dict[str, tuple[str, str]]:
    """The first RANKED sources of a ranking that have weights, by name: backbone and weights.

    Untrained networks want other stages. Raises InputError for a folder that is none of `python -m runner
    rank`, and where no source has weights.
    """
    path = Path(os.path.expanduser(folder)) / "rank.json"
    if not path.is_file():
        raise InputError(f"--rank {folder}: there is no rank.json; give a folder that `rank` made.")
    found = [one for one in run_folders.read_json(path).get("sources", []) if one["weights"] != "none"]
    if not found:
        raise InputError(f"--rank {folder}: none of its sources has weights; leave it out.")
    found = found[:RANKED]
    return {str(one["source"]): (str(one["backbone"]), str(one["weights"])) for one in found}


def run(name: str, options: Options, arguments: Sequence[str]) -> int:
    """Search, test, and write the page; returns the exit code: 1 where no trial came to its end.

    name: of the template. arguments: flags of the template, from which all trials begin. Raises
    InputError for what cannot be used, before anything is trained.
    """
    if importlib.util.find_spec("optuna") is None:
        raise InputError(
            'a search needs Optuna, which is not installed: run `pip install "optuna>=5,<6"`, and give the '
            "same command again."
        )
    package = find(name)
    config = base(package, arguments)
    space = space_of(package, config, options, arguments)
    quiet.import_tensorflow()
    from runner.tuning import claims, search

    if options.search not in search.SEARCHES:
        raise InputError(f"--search {options.search} is not one of {', '.join(search.SEARCHES)}.")
    job = search.Job(package, config, space, options.search, options.prune, options.grid_points)
    record = _record(job)
    short = package.rpartition(".")[2]
    called = options.study or f"{options.search}-{_fingerprint(record)}"
    folder = atomic.place(Path("runs") / f"{short}-tuning" / called, "--study")
    most = _most(job, options)
    folder.mkdir(parents=True, exist_ok=True)
    url = options.storage or f"sqlite:///{(folder / 'study.db').resolve()}"
    with claims.alone(folder / ".claims" / "open"):
        study = search.open_study(job, record, f"{short}-{called}", url)
    begun = len(study.get_trials(deepcopy=False))
    print(
        f"study: {folder} ({job.search}, {job.direction} {job.objective}; {begun} trials so far)", flush=True
    )
    for path, found in space.ranges.items():
        print(f"  {path}: {spaces.in_words(found)}")
    ends = time.time() + 60 * options.minutes if options.minutes else math.inf
    if options.workers > 1 and not options.join:
        _workers(name, options, arguments, folder, most, ends, called)
    train = template.train(package, "main")
    search.work(study, job, folder, train, most, ends)
    if options.join:
        return 0
    _wait(study, folder)
    return _end(study, job, folder, train)


def _record(job: Any) -> dict[str, Any]:
    """What a study follows from, in plain JSON types."""
    record = {
        "template": job.template,
        "search": job.search,
        "prune": job.prune,
        "config": fields.to_dict(job.config),
        "space": spaces.record(job.space),
    }
    if job.search == "grid":
        record["grid_points"] = job.grid_points
    return json.loads(json.dumps(record))


def _fingerprint(record: Any) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:8]


def _most(job: Any, options: Options) -> int:
    """How many trials there are to be in all."""
    points = len(job.points()) if job.search == "grid" else None
    wanted = options.trials or points or (sys.maxsize if options.minutes else TRIALS)
    if points is not None and wanted > points:
        raise InputError(f"--trials {wanted}: the grid has {points} points; give at most as many.")
    return wanted


def _workers(
    name: str, options: Options, arguments: Sequence[str], folder: Path, most: int, ends: float, called: str
) -> None:
    """Start processes that work on the study, and wait for them; what they print goes to worker_N.log.

    Of several GPUs each process gets one in turn, and of one no process takes all memory.
    """
    command = [sys.executable, "-m", "runner", "tune", name, "--join", "--study", called]
    command += ["--search", options.search, "--grid-points", str(options.grid_points)]
    if ends < math.inf:
        command += ["--minutes", str(max(0.001, (ends - time.time()) / 60))]
    else:
        command += ["--trials", str(most)]
    command += ["--storage", options.storage] if options.storage else []
    command += [] if options.prune else ["--no-prune"]
    command += ["--space", *options.space] if options.space else []
    command += ["--fix", *options.fix] if options.fix else []
    command += ["--rank", options.rank] if options.rank else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = (
        visible.split(",") if visible else sorted(one.name[6:] for one in Path("/dev").glob("nvidia[0-9]*"))
    )
    processes = []
    try:
        for number in range(options.workers):
            own = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if gpus else {}
            own |= {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
            with open(folder / f"worker_{number}.log", "a", encoding="utf-8") as log:
                processes.append(
                    subprocess.Popen(
                        [*command, *arguments], stdout=log, stderr=log, env=os.environ | own, cwd=Path.cwd()
                    )
                )
        print(f"{options.workers} workers: {folder}/worker_*.log", flush=True)
        for number, process in enumerate(processes):
            code = process.wait()
            if code:
                print(f"worker {number} ended with {code}, see its log; what it left goes on here")
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            process.wait()


def _wait(study: Any, folder: Path) -> None:
    """Wait for trials that other processes of this disk are at; those of other hosts do not count."""
    from runner.tuning import claims, search

    told = False
    while True:
        running = [one.number for one in study.get_trials(deepcopy=False) if one.state.name == "RUNNING"]
        held = [number for number in running if _is_held(folder / ".claims" / f"{number:04}", claims)]
        if not held:
            break
        if not told:
            print(f"waiting for trials of other processes: {', '.join(map(str, held))}", flush=True)
        told = True
        time.sleep(2)
    if running:
        names = ", ".join(str(search.place_of(folder, number).name) for number in running)
        print(f"not finished, and nobody here is at them: {names}; they do not count")


def _is_held(path: Path, claims: ModuleType) -> bool:
    file = claims.take(path) if path.is_file() else None
    if file is not None:
        file.close()
    return path.is_file() and file is None


def _end(study: Any, job: Any, folder: Path, train: ModuleType) -> int:
    """Write trials.csv; test the default and the best once; print and write the page.

    A default that fails, where settings that were found do not, costs the comparison and not the page.
    """
    from runner.tuning import page, search

    table = search.table(study, job)
    atomic.write_csv(folder / "trials.csv", table)
    counts = table["state"].value_counts().to_dict()
    said = ", ".join(f"{number} {state}" for state, number in counts.items())
    done = search.finished(study, job)
    if not done:
        reasons = [one for one in dict.fromkeys(table["reason"]) if one]
        print(
            f"no trial came to its end ({said}): {'; '.join(reasons[:5]) or 'none failed'}", file=sys.stderr
        )
        return 1
    best = done[0]
    print(f"{len(table)} trials: {said}; best: trial {best.number}, {job.objective} {best.value:.4f}")
    chosen = spaces.apply(job.config, job.space.ranges, best.params)
    names = ("default", search.place_of(folder, best.number).name)
    atomic.write_json(folder / "best.json", fields.to_dict(chosen))
    tested, why_not = [], "" if job.config.machine.test else "The test was not opened (--no-test)."
    for name, config in zip(names, (job.config, chosen), strict=True) if job.config.machine.test else ():
        try:
            tested.append(_test(train, config, folder / "tested" / name))
        except (InputError, DivergenceError, CollapseError, OutOfMemory) as error:
            if isinstance(error.__cause__, OSError):
                raise
            why_not = f"There is no comparison: the run {name} failed ({' '.join(str(error).split())})."
            print(why_not)
    # What a search hands out is no worse on validation than what it began with.
    if not why_not and page.default_kept(tested):
        atomic.write_json(folder / "best.json", fields.to_dict(job.config))
    page.write(folder, job, table, best, chosen, [] if why_not else tested, why_not)
    return 0


def _test(train: ModuleType, config: Any, place: Path) -> Path:
    """A complete run of a Config without baselines, which opens the test; one that is there is kept."""
    from runner.tuning import trials

    if (place / "metrics.json").is_file():
        lock.clear_complete(place)
        return place
    print(f"testing {place.name}, which trains it once more: {place}", flush=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    config = fields.replace(config, baselines=False, run_dir=str(place))
    trials.one(train, config, place.with_suffix(".log"))
    run_folders.read_complete(place)
    return place
