"""What a person does to a whole mask at one press: each takes a bool mask `[H, W]` and returns a new one.

Where the photo's frame cuts the lesion, it is taken to go on outside: nothing is filled, smoothed or shrunk from there.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_skinseg.errors import BadInput

from .mask import CleanUp, bounding_box, clean_mask

_AS_IT_IS = {"keep": "all", "min_area": 0.0, "fill_holes": False, "smooth": 0.0}


def fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with all it encloses."""
    return _cleaned(mask, fill_holes=True)


def smooth_border(mask: NDArray[np.bool_], strength: float = 0.004) -> NDArray[np.bool_]:
    """The mask without notches and spikes narrower than about `strength`, a fraction of the frame's diagonal.

    A lesion too small for it stays as it is.

    Raises:
        BadInput: the strength is not above 0 and at most 0.05.
    """
    if not strength > 0:
        raise BadInput(f"The strength of smoothing is {strength}; give a fraction of the diagonal, such as 0.004.")
    return _cleaned(mask, smooth=strength)


def keep_largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The piece with the most pixels; those that touch at a corner are one piece."""
    return _cleaned(mask, keep="largest")


def grow(mask: NDArray[np.bool_], pixels: float) -> NDArray[np.bool_]:
    """The mask and all that is at most `pixels` away from it, from pixel centre to pixel centre.

    Raises:
        BadInput: `pixels` is not a number above 0.
    """
    return _moved(mask, pixels, outwards=True)


def shrink(mask: NDArray[np.bool_], pixels: float) -> NDArray[np.bool_]:
    """What is more than `pixels` away from all that is not lesion; small pieces go.

    Raises:
        BadInput: `pixels` is not a number above 0.
    """
    return _moved(mask, pixels, outwards=False)


def _moved(mask: NDArray[np.bool_], pixels: float, outwards: bool) -> NDArray[np.bool_]:
    """Only the bounding box is worked on: a distance transform takes a tenth of a second per megapixel."""
    if not (math.isfinite(pixels) and pixels > 0):
        raise BadInput(f"The border cannot be moved by {pixels} pixels; give a number above 0.")
    result = np.zeros(mask.shape, dtype=bool)
    box = bounding_box(mask, margin=math.ceil(pixels) if outwards else 1)
    if box is None:
        return result
    part = mask[box].astype(bool)
    if part.all():  # it fills the frame, and there is nothing to measure a distance to
        result[box] = True
    elif outwards:
        result[box] = ndimage.distance_transform_edt(~part) <= pixels
    else:
        result[box] = ndimage.distance_transform_edt(part) > pixels
    return result


def _cleaned(mask: NDArray[np.bool_], **step: object) -> NDArray[np.bool_]:
    return clean_mask(mask, CleanUp(**{**_AS_IT_IS, **step}))  # type: ignore[arg-type]
