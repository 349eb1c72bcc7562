"""Charts, as pure functions from tables and fits to specifications of Vega-Lite; one module per family of charts."""
