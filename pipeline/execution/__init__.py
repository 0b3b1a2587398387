"""How work is carried out: in which processes videos are read, and what becomes of a process that fails."""
