"""``python -m profiler``."""

import sys

if __name__ == "__main__":
    # The folder where the user stands comes last, as for the command `profiler`, which does not look there at all: a
    # file of theirs that is named like a module of Python's or of a dependency's is not that module.
    if not sys.flags.safe_path:
        sys.path.append(sys.path.pop(0))

    from profiler.cli.app import main

    main()
