"""`make demo`: two versions of a worker, a dial, an instant undo, under load; exits 0 only if every promise holds."""

import sys

from demo.main import main

if __name__ == "__main__":
    sys.exit(main())
