"""Random inputs through every door of the package: ``python -m fuzz`` in the folder ``tests``."""

DOORS = (
    *(
        "npz",
        "png and jpg",
        "idx",
        "batches",
        "weights",
        "recipe.json",
        "card.json",
        "results.json",
    ),
    *("resumed folder", "--set", "command line", "arrays", "attacks", "modules", "purifiers"),
    *("purify", "api arguments", "budgets", "runs"),
)
"""The names of the doors, for tests that do not try them in their own process."""
