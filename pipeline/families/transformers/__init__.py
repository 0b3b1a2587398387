"""Any model that transformers loads by itself as a multimodal model, from its own config, processor and template."""
