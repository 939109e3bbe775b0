"""Complete runs, one frozen ``RECIPE`` per file. The name of the file is the name of the recipe."""
