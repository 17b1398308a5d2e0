"""`python -m greentic.router`: see `greentic.router.process`."""

from __future__ import annotations

import sys

from greentic.router.process import main

if __name__ == "__main__":
    sys.exit(main())
