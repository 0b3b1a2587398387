"""``python -m pipeline VERB`` is ``gens VERB``."""

import sys

from pipeline.cli import main

sys.exit(main())
