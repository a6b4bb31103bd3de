"""Generated photos with an exactly known mask, and artefacts that can be added to photos."""
