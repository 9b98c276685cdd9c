"""``python -m kgraph``: the command, where its script is not on the path."""

import sys

from kgraph.command import main

sys.exit(main())
