"""Pages for people: one template, without scripts, that a browser and each engine's UI show as they are.

A page is a decoration: its bytes stand in a receipt and in no digest, so it may name a run and a date.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup, escape

from visionloop.core import runs, texts
from visionloop.core.errors import shortened
from visionloop.core.stage import Context

#: The most bytes of a page.
MOST_BYTES = 5_000_000

#: Longest text of a page in characters, and longest name of a class, file or dataset.
LONGEST_TEXT = 600
LONGEST_NAME = 80

#: How the pages of a run name each other, by stage.
LINKS = {"validate": "The dataset's check", "evaluate": "The evaluation"}

#: Where a page names the other pages of its run.
_LINKS = re.compile(rb"<nav>.*?</nav>", re.DOTALL)


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a colour, what it stands for, and how many there are in a picture."""

    name: str
    colour: str
    count: int | None = None


@dataclass(frozen=True)
class Figure:
    """A picture (a data URI; None where there is none to show), its file's name, a note and what its colours stand for."""

    source: str | None
    name: str
    note: str
    legend: Sequence[Key] = ()


def page(template: str, values: Mapping[str, Any], links: Mapping[str, str] | None = None) -> bytes:
    """Renders a template of this package's ``templates`` folder.

    Args:
        template: Its file name.
        values: What it needs; texts are escaped, cleaned of secrets and shortened.
        links: Other pages by name, relative to this one.
    """
    return _ENVIRONMENT.get_template(template).render(navigation=_navigation(links or {}), **values).encode()


def linked(data: bytes, links: Mapping[str, str]) -> bytes:
    """A copy of a page that lies elsewhere, or was written before the others: with these links in place of its own."""
    return _LINKS.sub(lambda _: str(_navigation(links)).encode(), data, count=1)


def relative(uri: str, workspace: str) -> str | None:
    """The way from a page in an attempt's folder of a workspace to another page; None to one outside of it."""
    return f"../../../{uri.removeprefix(f'{workspace}/')}" if uri.startswith(f"{workspace}/") else None


def origin(context: Context, model: str | None = None) -> dict[str, str]:
    """The model's name where it is known, the run and the date, as a page shows them."""
    arguments = context.run_arguments
    # In a run that an engine started by itself, the first stage's arguments are all that is recorded.
    first = arguments.get("snapshot")
    model = model or arguments.get("model_name") or (first.get("model_name") if isinstance(first, Mapping) else None)
    named = {"Model": str(model)} if model else {}
    return {**named, "Run": context.run.name, "Date": runs.now()}


def name(text: str, longest: int = LONGEST_NAME) -> str:
    """A name from data as a page shows it: shortened behind ``longest`` characters."""
    text = texts.sentence(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _navigation(links: Mapping[str, str]) -> Markup:
    entries = [Markup('<a href="{}">{}</a>').format(target, label) for label, target in links.items()]
    return Markup("<nav>{}</nav>").format(Markup(" · ").join(entries))


def _shown(value: Any) -> Any:
    """A value as a page shows it: names from data without control characters, nobody's password, no endless text."""
    if not isinstance(value, str) or hasattr(value, "__html__") or value.startswith("data:image/"):
        return value
    return shortened(texts.outgoing(value), LONGEST_TEXT)


def _bounded(names: Sequence[str], most: int = 20) -> str:
    """The first names of several, and the number of the others."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return Markup("{}{}").format(Markup(", ").join(escape(name(entry, 40)) for entry in names[:most]), more)


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("visionloop.core.reports", "templates"),
    autoescape=True,  # names that come from data are hostile until escaped
    finalize=_shown,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {"name": name, "some": _bounded, "thousands": lambda number: f"{number:,}"}
