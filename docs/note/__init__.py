"""Makes the technical note, the slides and the tables of README and results out of result files."""
