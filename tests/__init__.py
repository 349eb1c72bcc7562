"""Tests mirror the folders of profiler/ and backends/; studies/ holds the long measured experiments."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
NATIVE = ROOT / "tests" / "native"
