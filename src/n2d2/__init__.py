"""N2D2's names over prunecell: its scripts and INI files run unchanged."""
