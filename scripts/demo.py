"""`make demo`: two versions of a worker, a dial, an instant undo, under load; exits 0 only if every promise holds."""

import sys


def run() -> int:
    """Run the demo; Ctrl-C while it is still being loaded ends it without a word, as there is nothing to stop."""
    try:
        from demo.main import main
    except KeyboardInterrupt:
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(run())
