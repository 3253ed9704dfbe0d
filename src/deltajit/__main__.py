"""Run the command line as ``python -m deltajit``."""

import sys

from deltajit.cli import main

sys.exit(main())
