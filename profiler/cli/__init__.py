"""The command line: a module per command, dispatched by ``profiler.cli.app``."""
