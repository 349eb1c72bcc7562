"""Tables of made-up networks whose law is known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from profiler.analysis.fit import Fit, fit


def networks(n: int = 24, seed: int = 0, noise: float = 0.05, **columns: object) -> pd.DataFrame:
    """Networks over two decades whose latency is 3 ms + 0.5 ms per million acts + 2 ms per GF, with noise."""
    rng = np.random.default_rng(seed)
    acts = np.exp(rng.uniform(np.log(2e6), np.log(1e8), n))
    flops = acts * np.exp(rng.normal(5, 0.7, n))
    frame = pd.DataFrame(
        {
            "model": [f"net{i}" for i in range(n)],
            "family": [("a", "b", "c")[i % 3] for i in range(n)],
            "acts": acts,
            "flops": flops,
            "params": np.exp(rng.uniform(np.log(2e6), np.log(1e8), n)),
            "latency_ms": (3 + 0.5 * acts / 1e6 + 2 * flops / 1e9) * np.exp(noise * rng.normal(size=n)),
            "backend": "eager",
            "status": "ok",
            "reason": "",
        }
    )
    return frame.assign(**columns)


def measured_unevenly(seed: int = 2) -> pd.DataFrame:
    """Latencies of which every other one is ten times as uncertain as the rest, and says so."""
    frame = networks(n=40, noise=0)
    rng = np.random.default_rng(seed)
    sd = np.where(np.arange(40) % 2, 0.02, 0.2)
    frame["latency_ms"] *= np.exp(sd * rng.normal(size=40))
    frame["latency_ci_low_ms"] = frame["latency_ms"] * np.exp(-1.96 * sd)
    frame["latency_ci_high_ms"] = frame["latency_ms"] * np.exp(1.96 * sd)
    return frame


def pooled(frame: pd.DataFrame, y: str = "latency_ms") -> Fit:
    found = [one for one in fit(frame, y) if one.family is None]
    assert len(found) == 1
    return found[0]
