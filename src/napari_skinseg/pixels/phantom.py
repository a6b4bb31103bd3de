"""Generated dermoscopic photos with an exactly known mask, and the artefacts that fool networks."""

from .artefacts import ARTEFACTS, add_artefact

__all__ = ["ARTEFACTS", "add_artefact"]
