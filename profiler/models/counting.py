"""Placeholder until merged."""


def count(module, args=(), kwargs=None, *, examples=1):
    from profiler.models.complexity import Complexity

    return Complexity(1, 1, 1)
