"""The command line: words become values, one api call does the work, the answer is printed."""

from spearshield.cli.main import main

__all__ = ["main"]
