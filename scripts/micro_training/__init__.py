"""How the embedded micro models are made: data, fast training forward, export. Not part of the installed package."""
