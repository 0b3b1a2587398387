"""What a run found, to look at: one self-contained HTML file, and a table for the terminal."""
