"""Pages and cards from the templates beside this module, written whole or not at all."""

import re
from pathlib import Path

import jinja2

from runner import atomic
from runner.report import words


def write(
    path: str | Path, template: str, *, markup: bool = True, filters: dict | None = None, **values
) -> Path:
    """Render `template` with `values` into the file `path` and return the path.

    markup: values are escaped for HTML; False is for Markdown.
    filters: more than the usual percent, interval and count.
    Raises jinja2.UndefinedError for a value that the template lacks; nothing is written then.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=markup,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": words.percent,
        "interval": words.interval,
        "count": words.count,
        "amount": words.amount,
    } | (filters or {})
    # A file name that is no UTF-8 gives a name that cannot be encoded; it must not cost the page.
    text = environment.get_template(template).render(values)
    if not markup:
        text = re.sub(r"\n{3,}", "\n\n", text)  # what conditions leave empty
    page = text.encode("utf-8", errors="backslashreplace")
    return atomic.write(Path(path), lambda temporary: temporary.write_bytes(page))
