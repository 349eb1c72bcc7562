"""The parent of visits: processes, rounds, calibrations, and what is shown meanwhile."""
