"""The publication of a method, and its BibTeX entry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A publication. ``authors`` is in BibTeX form, joined by " and "; "": they are not known."""

    title: str
    authors: str
    year: int
    url: str

    def bibtex(self, key: str) -> str:
        """The BibTeX entry; the year is appended to ``key``."""
        rows = {"title": "{" + self.title + "}", "author": self.authors, "year": self.year}
        body = "".join(f"  {name:<6} = {{{value}}},\n" for name, value in rows.items() if value)
        return f"@misc{{{key}{self.year},\n{body}  url    = {{{self.url}}},\n}}"
