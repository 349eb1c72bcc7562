"""Inside the fresh process of a visit: the passes, and the only clock around a model."""
