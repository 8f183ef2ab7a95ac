"""The pages a person reads: links lead somewhere, code and commands would run, the README stays short."""

import ast
import importlib
import re
import shlex
import textwrap
from pathlib import Path

import pandas as pd
import pytest

from docs import pictures
from runner import __main__ as commands
from runner import flags

REPOSITORY = Path(__file__).resolve().parent.parent
READMES = sorted(REPOSITORY.glob("templates/[a-z]*/README.md"))
TEMPLATES = [page.parent.name for page in READMES]
PAGES = {
    str(page.relative_to(REPOSITORY)): page.read_text(encoding="utf-8")
    for page in (
        *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted(REPOSITORY.glob("docs/*.md")),
        *READMES,
        *sorted(REPOSITORY.glob("datasets/*/README.md")),
        *sorted(REPOSITORY.glob("checkpoints/*/README.md")),
    )
}
"""A page's path in the repository: its text."""
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", flags=re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language, also those indented in a list."""
    return [textwrap.dedent(text) for _, of, text in FENCE.findall(PAGES[page]) if of == language]


def prose(text: str) -> str:
    return FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """What GitHub makes of headings: lower case, no punctuation, hyphens for spaces, -1 on the second."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        again = sum(re.sub(r"-\d+$", "", one) == anchor for one in found)
        found.append(f"{anchor}-{again}" if again else anchor)
    return set(found)


def resolves(module: str, name: str | None = None) -> bool:
    """Whether `module` can be imported and has `name`, which may be a module of its own."""
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError:
        return False
    return name is None or hasattr(imported, name) or resolves(f"{module}.{name}")


def test_links_lead_to_files_and_headings_that_exist():
    wrong = []
    for page, text in PAGES.items():
        links = re.findall(r"\]\(([^)\s]+)\)", prose(text))
        links += re.findall(r'(?:src|href)="([^"]+)"', prose(text))
        for link in links:
            path, _, anchor = link.partition("#")
            if re.match(r"https?:", link):
                continue
            target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
            if not target.exists():
                wrong.append(f"{page} links to {link}, which is not there")
            elif anchor and anchor not in (there := anchors(target.read_text(encoding="utf-8"))):
                wrong.append(f"{page} links to {link}; headings: {', '.join(sorted(there))}")
    assert not wrong, "\n".join(wrong)


def test_files_that_are_named_exist():
    """Words in backticks that begin with a folder of the repository, and the tests in command lines."""
    folders = "runner|templates|tests|docs|datasets|checkpoints|benchmarks|notebooks|requirements"
    example = "templates/rows"  # of CONTRIBUTING.md
    wrong = []
    for page, text in PAGES.items():
        named = re.findall(rf"`((?:{folders})/[\w./]*)`", text)
        named += re.findall(r"(?<![\w/])tests/[\w/]+\.py\b", "\n".join(blocks(page, "sh")))
        wrong += [
            f"{page} names {path}, which is not there"
            for path in named
            if not path.startswith(example) and not (REPOSITORY / path).exists()
        ]
    assert not wrong, "\n".join(wrong)


def test_modules_that_are_named_exist():
    wrong = []
    for page, text in PAGES.items():
        text = prose(text)
        if page == "CHANGELOG.md":  # the left column of its table has the names of before
            text = re.sub(r"^ *\|[^|]*\|", "", text, flags=re.MULTILINE)
        for module in re.findall(r"`((?:runner|benchmarks|docs)(?:\.[a-zA-Z_]\w*)+)`", text):
            owner, _, name = module.rpartition(".")
            if name != "md" and not resolves(owner, name):
                wrong.append(f"{page} names {module}, which is not there")
    assert not wrong, "\n".join(wrong)


def test_python_blocks_compile_and_what_they_import_is_there():
    wrong = []
    for page in PAGES:
        for block in blocks(page, "python"):
            for node in ast.walk(ast.parse(block, filename=page)):
                if isinstance(node, ast.Import):
                    pairs = [(alias.name, None) for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    pairs = [(node.module, alias.name) for alias in node.names]
                else:
                    continue
                for module, name in pairs:
                    if module.split(".")[0] in ("runner", "templates") and not resolves(module, name):
                        wrong.append(f"{page} imports {name or module} from {module}, which is not there")
    assert not wrong, "\n".join(wrong)


def command_lines(page: str) -> list[list[str]]:
    """What follows `python -m` in a page's sh blocks, as words; folded lines joined, $VARIABLES put in."""
    found, variables = [], {}

    def remember(given: re.Match) -> str:
        variables[given[1]] = given[2].replace("\n", " ")
        return ""

    for block in blocks(page, "sh"):
        block = re.sub(r'^(\w+)="(.*?)"$', remember, block, flags=re.MULTILINE | re.DOTALL)
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            line = re.sub(r"\$(\w+)", lambda used: variables.get(used[1], used[0]), line)
            for command in line.split(" && "):
                words = shlex.split(command, comments=True)
                if words[:2] == ["python", "-m"]:
                    found.append(words[2:])
    return found


def check_command(words: list[str]) -> None:
    """Parse a command line with the parser that would; raises what that raises."""
    module, *arguments = words
    if module == "runner":
        options, of_template = commands.parser().parse_known_args(arguments)
        if options.command in ("tune", "seeds"):
            config = importlib.import_module(f"{options.template}.config").Config
            flags.parse(config, of_template)
        elif of_template:
            raise ValueError(f"no flags of this command: {of_template}")
        if options.command == "launch":
            check_command(options.module)
    elif re.fullmatch(r"templates\.\w+\.train", module) and module.split(".")[1] != "rows":
        config = importlib.import_module(module.removesuffix("train") + "config")
        flags.parse(config.Config, arguments)
    elif module.startswith("benchmarks."):
        assert resolves(module), f"there is no {module}"


def test_commands_have_flags_that_exist():
    wrong = []
    for page in PAGES:
        for words in command_lines(page):
            try:
                check_command(words)
            except (Exception, SystemExit) as error:
                wrong.append(f"{page}: python -m {shlex.join(words)}: {error}")
    assert not wrong, "\n".join(wrong)


def test_the_commands_are_found():
    """The search above sees what it is meant to see: folded lines, a launcher, variables, every template."""
    found = [shlex.join(words) for page in PAGES for words in command_lines(page)]
    assert any("--backbone MobileNetV2 --weights imagenet" in line and "--data" in line for line in found)
    assert any(line.startswith("runner launch") and "templates." in line for line in found)
    assert not any("$FLOWERS" in line for line in found)
    for template in TEMPLATES:
        assert any(line.startswith(f"templates.{template}.train") for line in found)
    with pytest.raises(Exception, match="no-such-flag"):
        check_command(["templates.image_classification.train", "--no-such-flag", "1"])


def test_make_targets_that_are_named_exist():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    for page, text in PAGES.items():
        named = re.findall(r"`make ([a-z-]+)", text)
        named += re.findall(r"^make ([a-z-]+)", "\n".join(blocks(page, "sh")), flags=re.MULTILINE)
        assert set(named) <= targets, f"{page} names make {', '.join(set(named) - targets)}"


def test_every_page_and_every_template_is_found_from_the_readme():
    for page in PAGES:
        if page.startswith("docs/") and page != "docs/README.md":
            assert f"({page.removeprefix('docs/')})" in PAGES["docs/README.md"], (
                f"docs/README.md lacks {page}"
            )
    for template in TEMPLATES:
        assert f"(templates/{template}/README.md)" in PAGES["README.md"]


def test_the_readme_is_a_read_of_five_minutes():
    assert len(PAGES["README.md"].splitlines()) <= 180


def test_pictures_are_small():
    found = list(REPOSITORY.glob("docs/*.png"))
    assert len(found) >= 2
    for path in found:
        assert path.stat().st_size < pictures.LARGEST, f"{path.name} has {path.stat().st_size:,} bytes"


def test_the_stages_picture_tells_frozen_from_trained(tmp_path):
    ledger = pd.DataFrame(
        [
            ("head", "block1", 0, 0.0),
            ("head", "head", 2, 0.5),
            ("all", "block1", 2, 0.02),
            ("all", "head", 2, 0.1),
        ],
        columns=["stage", "block", "to_train", "relative_change"],
    )
    history = pd.DataFrame({"stage": ["head", "all", "all"], "val_accuracy": [0.5, 0.7, 0.6]})
    figure = pictures.stages_picture(ledger, history)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:4] == ["0", "50.0 %", "2.0 %", "10.0 %"]
    assert {"head\n1 epochs", "50.0 %", "all\n2 epochs", "70.0 %"} <= set(texts)


def test_pictures_of_a_folder_that_is_no_run_are_refused_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        pictures.main([str(tmp_path)])
    assert stop.value.code == 2 and "has no ledger.csv" in capsys.readouterr().err
