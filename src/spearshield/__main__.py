"""``python -m spearshield``: the same command, where no script directory is on the path."""

import sys

from spearshield.cli import main

if __name__ == "__main__":
    sys.exit(main())
