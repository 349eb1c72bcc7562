"""From answers to words and pictures: terminal, charts, pages, JUnit, Markdown."""
