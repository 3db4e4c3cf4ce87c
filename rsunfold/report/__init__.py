"""What a person or another program reads of a result: tables, JSON, pictures.

Every picture is a PNG at 100 dots per inch, written atomically; pixels that are not finite are light blue, or
grey beside blue and red. Importing this package loads neither matplotlib nor torch: each function imports what it
draws with.
"""

from __future__ import annotations

from rsunfold.report.anomaly import (
    anomaly_quicklook,
    anomaly_stages_picture,
    separability_picture,
    spectra_picture,
)
from rsunfold.report.curves import Course, Courses, roc_picture, training_picture
from rsunfold.report.denoising import NoisyBand, denoising_picture, worst_bands_picture
from rsunfold.report.features import Curve, feature_curves_picture, selection_picture
from rsunfold.report.headings import heading
from rsunfold.report.infrared import Case, quicklook, stages_picture, study_picture, worst_images
from rsunfold.report.spectral import noise_picture, quality_picture
from rsunfold.report.tables import table

__all__ = [
    "Case",
    "Course",
    "Courses",
    "Curve",
    "NoisyBand",
    "anomaly_quicklook",
    "anomaly_stages_picture",
    "denoising_picture",
    "feature_curves_picture",
    "heading",
    "noise_picture",
    "quality_picture",
    "quicklook",
    "roc_picture",
    "selection_picture",
    "separability_picture",
    "spectra_picture",
    "stages_picture",
    "study_picture",
    "table",
    "training_picture",
    "worst_bands_picture",
    "worst_images",
]
