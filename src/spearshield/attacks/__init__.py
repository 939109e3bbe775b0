"""Reference attacks, one per file. The file's name is the attack's name."""
