"""Build hooks only; everything else is in pyproject.toml."""
