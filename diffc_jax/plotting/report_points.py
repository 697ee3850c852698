"""The table of all rate points in the report."""

from collections.abc import Sequence

from diffc_jax.plotting import style, tags

# (column, heading, explanation)
COLUMNS: Sequence[tuple[str, str, str]] = (
    ("model", "model", "denoiser, or variant of the codec"),
    ("rate_kind", "rate", "bound: upper bound on an achievable rate; file: bytes of real files"),
    ("level", "level", "standard deviation of the noise, or quality setting of the codec"),
    ("gamma", "gamma", "negative log signal-to-noise ratio"),
    ("bpp", "bpp", "rate in bits per pixel"),
    ("bpp_stderr", "± bpp", "standard error of the rate over the images"),
    ("bpp_kl", "ideal bpp", "ideal rate C, the mean information"),
    ("bpp_headerless", "headerless bpp", "file bits without what a container says of any image"),
    ("psnr", "PSNR", "of the mean squared error, dB"),
    ("psnr_mean", "mean PSNR", "mean of the PSNRs of the images, dB"),
    ("psnr_mean_stderr", "± mean PSNR", "standard error over the images, dB"),
    ("mse", "MSE", "mean squared error of 8-bit values"),
    ("fid", "Fréchet", "Fréchet distance in the features named beside it"),
    ("kid", "kernel", "kernel distance in the features named beside it"),
    ("kid_stderr", "± kernel", "its standard error"),
    ("fid_features", "features", "feature network of the distances between sets of images"),
    ("fid_reference", "reference", "images that these distances compare with"),
    ("lpips", "LPIPS", "with AlexNet, mean over the images"),
    ("lpips_stderr", "± LPIPS", "its standard error"),
    ("lpips_vgg", "LPIPS VGG", "with VGG16, mean over the images"),
    ("lpips_vgg_stderr", "± LPIPS VGG", "its standard error"),
    ("ms_ssim", "MS-SSIM", "mean over the images"),
    ("ms_ssim_stderr", "± MS-SSIM", "its standard error"),
    ("n_images", "images", "images behind the row"),
    ("n_steps", "evaluations", "network evaluations for each image that the decoder makes"),
    ("n_rate_steps", "T", "steps of the chain behind the ideal rate"),
    ("seed", "seed", "of the noise"),
    ("dataset", "data", "data set"),
    ("split", "split", "split of the data set"),
    ("checkpoint", "checkpoint", "which parameters"),
    (
        "bpp_estimate",
        "estimated bpp",
        "file bits as the entropy models of a trained codec estimate them",
    ),
    ("trained_parameters", "parameters", "trained, as many as a decoder needs"),
    ("images_seen", "images seen", "in training, repetitions counted"),
    ("train_cpu_hours", "CPU hours", "of training, of all cores together"),
)


def points_table(series: Sequence[style.Series]) -> str:
    """All rate points; columns that no point fills are left out."""
    rows = [(line, point) for line in series for point in line.points]
    columns = [
        column
        for column in COLUMNS
        if any(getattr(point, column[0]) is not None for _, point in rows)
    ]
    head = tags.heading("method", "line in the figure", [])
    for name, text, explanation in columns:
        head += tags.heading(text, explanation, [getattr(point, name) for _, point in rows])
    body = []
    for line, point in rows:
        cells = f'<th scope="row" title="{tags.text(line.group)}">{tags.text(line.label)}</th>'
        cells += "".join(tags.cell(getattr(point, name)) for name, _, _ in columns)
        body.append(f"<tr>{cells}</tr>")
    return (
        f'<table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )
