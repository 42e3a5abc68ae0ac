"""What fairseq's `--user-dir` points to: importing it registers our tasks, models and criterion.

The folder has a name of its own because fairseq imports it as a top-level module.
"""

import refhcm.engine.register  # noqa: F401
