"""Placeholder until merged."""


def count_onnx(model, shapes, *, examples=1):
    from profiler.models.complexity import Complexity

    return Complexity(1, 1, 1)
