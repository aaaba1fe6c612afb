"""Makes the technical note, the slides and the README's tables out of result files."""
