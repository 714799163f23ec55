"""The command line as a module: ``python -m clarkia``, which is how launchers of several processes start it."""

import sys

from clarkia.cli import main

if __name__ == "__main__":
    sys.exit(main())
