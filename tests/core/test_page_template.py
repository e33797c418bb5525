"""The one template of all pages: no script, a policy that allows none, both colour schemes, escaped and bounded text, links."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from visionloop.core import reports

TEMPLATES = [
    entry.name
    for entry in (resources.files("visionloop.core.reports") / "templates").iterdir()
    if entry.name.endswith(".html")
]
BASE = {"title": "a", "headline": "a & b", "tone": "", "facts": {"Dataset": "‮<b>", "Run": "r"}, "left_out": 0}


def rendered(links: dict[str, str] | None = None, **changed: object) -> str:
    return reports.page("base.html", BASE | changed, links).decode()


def test_a_page_allows_no_script_and_knows_the_dark() -> None:
    text = rendered()
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in text
    assert text.index("Content-Security-Policy") < text.index("<style")
    assert "@media (prefers-color-scheme: dark)" in text
    assert '<meta name="viewport" content="width=device-width' in text


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_template_has_a_script_or_loads_anything(name: str) -> None:
    text = (resources.files("visionloop.core.reports") / "templates" / name).read_text()
    assert not re.search(r"<script|javascript:|\son\w+\s*=|https?://|@import|url\(", text)
    assert name in ("base.html", "parts.html") or '{% extends "base.html" %}' in text


def test_a_page_has_names_escaped_and_bounded() -> None:
    text = rendered(headline="<i>" + "x" * 10_000)
    assert "&lt;i&gt;xxx" in text
    assert "x" * reports.LONGEST_TEXT not in text
    assert "\\u202e&lt;b&gt;" in text


def test_pictures_that_are_left_out_are_told() -> None:
    assert "pictures are left out" not in rendered()
    assert "1,234 more pictures are left out" in rendered(left_out=1234)


def test_pages_link_to_each_other() -> None:
    assert "<nav></nav>" in rendered()
    text = rendered({"The dataset's check": "../a.html?<"})
    assert '<nav><a href="../a.html?&lt;">The dataset&#39;s check</a></nav>' in text
    copy = reports.linked(text.encode(), {"The evaluation": "evaluate.html"}).decode()
    assert '<nav><a href="evaluate.html">The evaluation</a></nav>' in copy
    assert copy.replace(re.findall("<nav>.*</nav>", copy)[0], "") == text.replace(
        re.findall("<nav>.*</nav>", text)[0], ""
    )


def test_a_link_is_relative_within_a_workspace() -> None:
    report = "s3://b/w/validate/k/a/report.html"
    assert reports.relative(report, "s3://b/w") == "../../../validate/k/a/report.html"
    assert reports.relative(report, "s3://b/other") is None
