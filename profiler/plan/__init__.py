"""From a TOML file or flags to cases. Pure: nothing is measured or built."""
