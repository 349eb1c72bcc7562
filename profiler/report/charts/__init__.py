"""Charts, as pure functions from tables and fits to altair specifications; one module per family of charts."""
