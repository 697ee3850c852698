"""Names of the files in W/eval, which docs/output_files.md describes, for those who write and read them."""

RATES, RATE_CURVE = "rd.csv", "rate_curve.csv"
SUMMARY, LOSSLESS = "summary.json", "lossless.json"
IMAGES, CONFIG, ENVIRONMENT = "images.json", "config.json", "environment.json"
SAMPLES, SAMPLES_OF = "samples.csv", "samples_{}.png"  # of a decoder
# Of the sweep, of the files of the model, and of the methods that it is compared with.
PER_IMAGE, RECONSTRUCTIONS = "per_image.csv", "reconstructions.npz"
CODEC_PER_IMAGE, CODEC_RECONSTRUCTIONS = "per_image_codec.csv", "reconstructions_codec.npz"
BASELINE_PER_IMAGE = "per_image_baselines.csv"
BASELINE_RECONSTRUCTIONS = "reconstructions_baselines.npz"
SPECTRA, BASELINE_SPECTRA = "spectra.csv", "spectra_baselines.csv"
# A picture of `RECONSTRUCTIONS`.
GRID = "reconstructions.png"

# What only holds for the pixels of the images, beside `RATES`.
OF_IMAGES = (
    *(RATE_CURVE, SUMMARY, LOSSLESS, SAMPLES, SPECTRA, BASELINE_SPECTRA, GRID),
    *(PER_IMAGE, CODEC_PER_IMAGE, BASELINE_PER_IMAGE),
    *(RECONSTRUCTIONS, CODEC_RECONSTRUCTIONS, BASELINE_RECONSTRUCTIONS),
)
