"""What the machine is and does: host, device, conditions, caches, checks."""
