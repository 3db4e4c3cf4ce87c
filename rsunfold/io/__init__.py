"""Reading cubes of any supported format, and writing rasters without ever leaving half a file."""

from rsunfold.io.atomic import atomic_path
from rsunfold.io.reader import CubeReader, full_range, open_cube
from rsunfold.io.writer import RasterWriter

__all__ = ["CubeReader", "RasterWriter", "atomic_path", "full_range", "open_cube"]
