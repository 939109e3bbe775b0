"""Complete runs, one per file, each a frozen ``RECIPE``. The file's name is the recipe's."""
