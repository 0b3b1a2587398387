"""One module a verb: it takes the composed config, builds the parts and runs them. Returns the exit code."""
