"""`python -m runner` for the smallest template, which is none of templates/."""

import sys

from runner.flags import exit_on_input_error
from runner.runs import template

template.packages = lambda repository=None: ["tests.rows"]

from runner.__main__ import main  # noqa: E402 - it takes what stands above

if __name__ == "__main__":
    with exit_on_input_error():
        sys.exit(main())
