"""Published methods, one paper per file. The file's name is the method's name."""
