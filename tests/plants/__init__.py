"""Tests of the tests: bugs that are planted on purpose, and the test that must turn red of each."""
