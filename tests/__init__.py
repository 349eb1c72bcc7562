"""Tests mirror the folders of profiler/ and backends/; a command is tested with the folder it calls.

cli/ has what all commands share, studies/ the long measured experiments.
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
NATIVE = ROOT / "tests" / "native"
