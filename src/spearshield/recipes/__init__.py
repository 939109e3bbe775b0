"""Complete runs, one per file; each defines one frozen ``RECIPE``. The file's name is the recipe's."""
