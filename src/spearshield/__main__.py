"""``python -m spearshield``: the command line without the script ``spearshield``."""

import sys

from spearshield.cli import main

if __name__ == "__main__":
    sys.exit(main())
