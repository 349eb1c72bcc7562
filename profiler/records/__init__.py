"""What was measured: frozen types, the journal, and pure estimates from raw samples."""
