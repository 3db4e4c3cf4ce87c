import pytest

from rsunfold.io.times import acquired_of, as_tiff_time


@pytest.mark.parametrize(
    ("tags", "acquired", "tiff"),
    [
        ({"TIFFTAG_DATETIME": "2022:07:24 10:20:30"}, "2022-07-24T10:20:30", "2022:07:24 10:20:30"),
        ({"acquisition_time": "2020-01-01T00:00:00Z"}, "2020-01-01T00:00:00Z", "2020:01:01 00:00:00"),
        ({"acquisition_time": "{2020-01-01 00:00:00.5}"}, "2020-01-01T00:00:00.500000", "2020:01:01 00:00:00"),
        ({"NC_GLOBAL#start_time": "2022-07-24 10:20:30+02:00"}, "2022-07-24T10:20:30+02:00", "2022:07:24 10:20:30"),
        ({"start_time": "2022-07-24"}, "2022-07-24", None),
        ({"start_time": "20220724"}, "2022-07-24", None),
        ({"start_time": "day 205"}, "day 205", None),
        (
            {
                "TIFFTAG_DATETIME": "2023:01:01 00:00:00",
                "EXIF_DateTimeOriginal": "2022:07:24 10:20:30",
                "EXIF_OffsetTimeOriginal": "+02:00",
            },
            "2022-07-24T10:20:30+02:00",
            "2022:07:24 10:20:30",
        ),
        (
            {"EXIF_DateTimeOriginal": "2022:07:24 10:20:30", "EXIF_OffsetTimeOriginal": "   :  "},
            "2022-07-24T10:20:30",
            "2022:07:24 10:20:30",
        ),
        (
            {
                "EXIF_DateTimeOriginal": "2022:07:24 10:20:30",
                "EXIF_SubSecTime_Original": "033",
                "EXIF_SubSecTime": "9",
                "EXIF_OffsetTimeOriginal": "+02:00",
            },
            "2022-07-24T10:20:30.033000+02:00",
            "2022:07:24 10:20:30",
        ),
        (
            {"EXIF_DateTime": "2022:07:24 10:20:30", "EXIF_SubSecTime": "5 "},
            "2022-07-24T10:20:30.500000",
            "2022:07:24 10:20:30",
        ),
        (
            {"EXIF_DateTimeDigitized": "2022:07:24 10:20:30", "EXIF_SubSecTime_Digitized": "  "},
            "2022-07-24T10:20:30",
            "2022:07:24 10:20:30",
        ),
        ({"EXIF_DateTimeOriginal": "0000:00:00 00:00:00", "TIFFTAG_DATETIME": "    :  :     :  :  "}, "", None),
        ({"time": "2022-07-24"}, "", None),
    ],
)
def test_when_an_image_was_taken(tags, acquired, tiff):
    assert acquired_of(tags) == acquired and as_tiff_time(acquired) == tiff
