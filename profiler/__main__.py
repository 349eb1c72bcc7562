"""``python -m profiler``."""

from profiler.cli.app import main

if __name__ == "__main__":
    main()
