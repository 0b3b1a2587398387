"""Reports on runs: one self-contained HTML file, and a table for the terminal."""
