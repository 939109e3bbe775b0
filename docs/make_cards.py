"""Write a card for every method into docs/methods.

Run it after changing a method's docstring, and after adding results.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

from spearshield.discover import discover
from spearshield.method import Method

FOLDER = Path(__file__).parent / "methods"
RESULTS = Path(__file__).parent / "results"


def card(name: str, method: type[Method]) -> str:
    """The Markdown of one card: the file's docstring, the settings and the entry to cite."""
    module = inspect.getdoc(inspect.getmodule(method)) or ""
    title, _, rest = module.partition("\n")
    settings = "\n".join(f"| `{f.name}` | `{f.default!r}` |" for f in fields(method))
    return f"""# {title}

`spearshield show {name}` prints this card; the code is
[`methods/{name}.py`](../../src/spearshield/methods/{name}.py).

```text
{rest.strip()}
```

## Hyper-parameters

```text
{inspect.getdoc(method)}
```

| field | default |
|---|---|
{settings}

## Measured

{measured(name)}

## Cite

```bibtex
{method.paper.bibtex(name)}
```
"""


def measured(name: str) -> str:
    """Links to the results in which a method was trained; a row names what it was made with."""
    found = [
        f"[{file.parent.name}](../results/{file.parent.name}/README.md)"
        for file in sorted(RESULTS.glob("*/results.json"))
        if f'"spearshield.methods.{name}:' in file.read_text(encoding="utf-8")
    ]
    return ", ".join(found) or "Nothing is committed yet."


def main() -> None:
    """Write all cards, and an index of them."""
    found = discover("methods", Method)
    rows = []
    for name, method in found.items():
        (FOLDER / f"{name}.md").write_text(card(name, method), encoding="utf-8")
        rows.append(f"- [{name}]({name}.md): {method.paper.title}, {method.paper.year}")
    head = "# Methods\n\nWritten by `python docs/make_cards.py` from the methods' own files.\n\n"
    (FOLDER / "README.md").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
