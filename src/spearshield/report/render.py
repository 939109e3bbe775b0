"""The templates, and the filters that escape and format their values."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache, partial
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from spearshield.report import words
from spearshield.report.document import Report

ESCAPED = "surrogateescape"
"""How Python holds the bytes of a file name that is not UTF-8."""


def html(report: Report) -> str:
    """One page that needs no network; its script sorts and filters only. Every text is escaped."""
    return page("report.html.j2", report, escaped=True)


def markdown(report: Report) -> str:
    """GitHub Markdown; every text from outside goes through the filter ``text`` or ``code``."""
    return page("report.md.j2", report, escaped=False)


def page(template: str, report: object, *, escaped: bool) -> str:
    """A template filled with a report.

    Args:
        escaped: True for HTML, whose text is escaped by itself.
    """
    return _environment(autoescape=escaped).get_template(template).render(report=report)


@cache
def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("spearshield.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "breakable": breakable,
        "code": code,
        "digest": digest,
        "quote": partial(quote, errors=ESCAPED),
        "text": text,
    }
    environment.globals["words"] = words
    return environment


def breakable(name: str) -> Markup:
    """``name`` escaped, with places at which a narrow column may break it."""
    return Markup(escape(name).replace("_", Markup("_<wbr>")))


def digest(value: str) -> str:
    """The digest of an inline script or style, for the policy that allows it and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(value.encode()).digest()).decode()}"


def text(value: str) -> str:
    """``value`` escaped such that Markdown shows it unchanged, on one line."""
    marked = re.sub(r"[\\`*\[\]|~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", value)
    return _plain(" ".join(marked.split()))


def code(value: str) -> str:
    """``value`` as code in a Markdown table."""
    escaped = re.sub(r"[|`*_\[\]\\~]", lambda found: f"&#{ord(found[0])};", _plain(value))
    return f"<code>{' '.join(escaped.split())}</code>"


def _plain(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
