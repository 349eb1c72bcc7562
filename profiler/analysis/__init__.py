"""From tables to answers: fits, predictions, advice, comparisons. Prints nothing; verify alone measures."""
