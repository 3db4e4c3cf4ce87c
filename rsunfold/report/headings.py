"""What tables for a person call the figures of reports."""

from __future__ import annotations

HEADINGS = {
    "max_area_px": "max area",
    "reach_px": "reach",
    "iou_pooled": "IoU",
    "niou": "nIoU",
    "f1_pooled": "F1",
    "overlap.pd": "Pd overlap",
    "overlap.fa": "Fa overlap",
    "centroid.pd": "Pd <3px",
    "centroid.fa": "Fa <3px",
    "centroid.false_components_per_megapixel": "false/Mpx",
    "empty_images.share_with_detection": "empty images with alarm",
    "empty_images.images": "empty images",
    "ms_per_image": "ms per image",
    "psnr": "PSNR",
    "psnr_global": "PSNR global",
    "ssim": "SSIM",
    "sam_radians": "SAM (rad)",
    "sam_degrees": "SAM (deg)",
    "ergas": "ERGAS",
    "ergas_published_code": "ERGAS (published code)",
    "auc_df": "AUC(D,F)",
    "auc_df_least": "least",
    "auc_df_deviation": "std over seeds",
    "auc_dtau": "AUC(D,tau)",
    "auc_ftau": "AUC(F,tau)",
    "auc_td": "AUC_TD",
    "auc_bs": "AUC_BS",
    "auc_snpr": "AUC_SNPR",
    "auc_tdbs": "AUC_TDBS",
    "auc_odp": "AUC_ODP",
    "auc_pf_0.01": "AUC PF<=0.01",
    "auc_pf_0.1": "AUC PF<=0.1",
    "mask.pfa": "mask PF",
    "mask.pd": "mask PD",
    "acc": "ACC",
    "nmi": "NMI",
    "oa": "OA",
    "aa": "AA",
}
"""By key; a key that is not here is its own heading. A key with a dot is the path to the figure in a run."""


def heading(key: str) -> str:
    """What a table calls the figure ``key`` of a report."""
    return HEADINGS.get(key, key)
