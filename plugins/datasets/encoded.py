"""Pictures that come as the bytes of a file."""

from __future__ import annotations

import io
import warnings

from PIL import Image, UnidentifiedImageError

from imagen_workbench.core import DataError


def picture_of(content: bytes) -> Image.Image:
    """Opened, not yet decoded. Raises DataError with the reason where it is no picture, or one beyond all measure."""
    if not content:
        raise DataError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a file that can be read after all
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(content))
    except UnidentifiedImageError as error:
        raise DataError("cannot be read: not an image that Pillow knows") from error
    except Exception as error:
        # decoders of many makers, fed with anyone's bytes: whatever they raise, the image is at fault
        raise DataError(f"cannot be decoded: {error or type(error).__name__}") from error
