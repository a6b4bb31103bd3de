"""Generated photos whose mask is known exactly, and artefacts to add to photos."""
