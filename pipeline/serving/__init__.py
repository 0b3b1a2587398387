"""An OpenAI-compatible server and a page for asking, in front of both stages."""
