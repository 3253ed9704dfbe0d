"""``python -m deltajit`` is the command ``deltajit``."""

import sys

from deltajit.cli import main

sys.exit(main())
