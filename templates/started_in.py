"""Let cookiecutter.json know the folder that cookiecutter was started in, as {{ started_in }}.

Hooks run elsewhere, and cookiecutter hands them a relative template path as it was typed: without this they
could not find the repository, nor a relative data folder. The environment's PWD tells it only when a shell
did the starting.
"""

import os

from jinja2.ext import Extension


class StartedIn(Extension):
    """Cookiecutter makes the environment that renders its answers before it changes folder."""

    def __init__(self, environment):
        super().__init__(environment)
        environment.globals["started_in"] = os.getcwd()
