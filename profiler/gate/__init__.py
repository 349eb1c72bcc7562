"""Two sides compared block by block, or with a stored baseline, and a verdict."""
