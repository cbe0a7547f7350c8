"""Fills the templates of the reports; every text is escaped, whoever wrote it.

A template is `report.html` beside the module whose figures it shows, extends
`tractor_calibration/pages/base.html`, and is installed with its package.
"""

from __future__ import annotations

import functools
import importlib.resources
import importlib.util
from typing import TYPE_CHECKING, Any

from tractor_core.errors import TractorError
from tractor_core.text import printable

if TYPE_CHECKING:
    import jinja2

LIBRARIES = {"jinja2": "Jinja2", "matplotlib": "matplotlib"}


def require_libraries() -> None:
    """Look for what reports are made with, without importing it.

    Raises:
        TractorError: something is missing.
    """
    missing = [name for module, name in LIBRARIES.items() if not importlib.util.find_spec(module)]
    if missing:
        raise TractorError(
            f"expected {' and '.join(LIBRARIES.values())} for the report, found no "
            f"{' and no '.join(missing)}; pip install {' '.join(missing)}, or make setup and use "
            ".venv/bin/python"
        )


def render(template: str, *, title: str, tone: str, verdict: str, **values: Any) -> str:
    """Return a whole page.

    Args:
        template: its package and path, as tractor_calibration/conversion/report.html.
        title: names the page.
        tone: pass, warn or fail: the colour beside the verdict.
        verdict: the one sentence that the page begins with.
        values: what else the template shows.
    """
    return environment().get_template(template).render(
        title=title, tone=tone, verdict=verdict, **values
    )  # fmt: skip


@functools.cache
def environment() -> jinja2.Environment:
    """Return where templates are looked up by package and path, and how values are written."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(template: str) -> str:
    package, _, path = template.partition("/")
    return importlib.resources.files(package).joinpath(path).read_text(encoding="utf-8")


def _shown(value: object) -> object:
    """Return a value as a printable line, which is escaped next; the templates' own HTML stays."""
    return value if hasattr(value, "__html__") else printable(value)
