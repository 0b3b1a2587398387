"""Parts of loaded networks in fewer passes over memory than transformers makes: norms, gates, rotations, experts."""
