"""The configuration of an experiment: every field with its default. `validation` checks them.

A file in `configs/` starts from `base_config()` and changes fields; `--config.x.y=v` overrides any of them.
"""

from ml_collections import ConfigDict

from diffc_jax.config.sources import source_config, training_sources
from diffc_jax.diffusion.decoders import DEFAULT_BUDGET
from diffc_jax.errors import UsageError

FEATURE_NETWORKS = ("efficientnet_lite0", "inception_v3_fid")
LR_DECAYS = ("constant", "cosine", "linear", "drop", "wsd")
OPTIMIZERS = ("adamw", "muon")
PLACEMENTS = ("host", "device", "auto")
TRACKERS = ("wandb", "mlflow")
# Of the codec: those for which there are tables.
CODEC_MEMORIES = (8, 12, 14)
# Metrics of pairs of images, and the least side that these must have.
IMAGE_METRICS = {"lpips_alex": 31, "lpips_vgg": 16, "ms_ssim": 11}
SET_METRICS = ("precision_recall", "classifier")
# Names that fields had before, in old command lines and config.json files -> their names.
FORMER_NAMES = {"eval.families": "eval.subsets"}


def base_config() -> ConfigDict:
    """All fields with their defaults; locked, so that a misspelt field is an error.

    The comment above a field gives its unit in brackets ([-]: a number without unit) and its meaning;
    docs/config.md is made of these comments.
    """
    config = ConfigDict()
    # [-] Seed of all random numbers in training and evaluation.
    config.seed = 0

    config.mesh = ConfigDict()
    # [groups] Number of groups of devices that each hold the whole state; -1: as many as mesh.fsdp leaves.
    config.mesh.data = -1
    # [devices] Number of devices that the state is split over; -1: all that mesh.data leaves.
    config.mesh.fsdp = 1

    config.data = ConfigDict()
    # [pixels] Height and width of all images.
    config.data.image_size = 64
    # [source] Training images: one source, or a tuple of several with weights and noise ranges.
    config.data.train = source_config(split="train")
    # [source] Images for validation and evaluation.
    config.data.eval = source_config(split="eval")
    # [source] Images that distances between sets compare with; no source: the evaluated images;
    # source=rest: the images of data.eval, or of each subset, that are not evaluated; the
    # evaluated ones are then drawn at random.
    config.data.reference = source_config(source="")
    # [yes or no] Mirror training images left to right with probability 1/2.
    config.data.random_flip = True
    # [threads] Number of threads that decode training images.
    config.data.num_threads = 4
    # [name] Where training images are: "host", "device" (all on each) or "auto" (there if they fit).
    config.data.placement = "host"

    config.model = ConfigDict()
    # [name] Denoiser, a key of diffc_jax.models.MODELS; its other fields are the arguments of the builder.
    config.model.name = "gaussian"

    config.schedule = ConfigDict()
    # [name] Noise schedule: linear, learned_linear or learned_network.
    config.schedule.name = "linear"
    # [-log SNR] Noise level at the data end, t = 0; 8-bit images need about -13.3.
    config.schedule.gamma_min = -13.3
    # [-log SNR] Noise level at the noise end, t = 1.
    config.schedule.gamma_max = 5.0

    config.train = ConfigDict()
    # [images] Batch of a step, on all devices together.
    config.train.batch_size = 64
    # [parts] Number of parts of a batch that go through the network in turn, to save memory; slow on CPUs.
    config.train.accumulation_steps = 1
    # [steps] Duration of the training; exactly one of the four durations is positive.
    config.train.num_steps = 0
    # [passes] Duration, as passes over the training images.
    config.train.num_epochs = 0.0
    # [images] Duration, as images seen.
    config.train.num_examples = 0
    # [seconds] Duration, as wall time, export included.
    config.train.max_seconds = 0.0
    # [steps] Number of updates in one dispatch to the devices.
    config.train.steps_per_call = 1
    # [path] Exported params.safetensors to start from; empty for random parameters.
    config.train.init_params = ""
    # [-log SNR] Noise levels that are trained, for an expert: (low, high); () for all.
    config.train.gamma_range = ()
    # [-] 0: the loss is the variational bound (ELBO); towards 1 lower rates count more.
    config.train.low_rate_emphasis = 0.0
    # [name] Optimiser: adamw; or muon for the matrices of the network and AdamW for the rest.
    config.train.optimizer = "adamw"
    # [-] Highest learning rate of AdamW.
    config.train.learning_rate = 2e-4
    # [-] Highest learning rate of Muon.
    config.train.muon_learning_rate = 2e-3
    # [steps] Length of the linear rise of the learning rate from the first step on.
    config.train.warmup_steps = 100
    # [name] After warm-up: constant; cosine or linear to zero; drop (to a tenth halfway);
    # wsd (to zero at the end).
    config.train.lr_decay = "constant"
    # [fraction] Part of the run in which wsd decays.
    config.train.decay_fraction = 0.2
    # [-] Decay of AdamW's mean of squared gradients, per step.
    config.train.beta2 = 0.99
    # [-] Decoupled decay of the parameters, in units of the learning rate, per step.
    config.train.weight_decay = 0.01
    # [bits/dim] Largest norm of all gradients together; larger ones are scaled down to it.
    config.train.clip_norm = 1.0
    # [-] Decay of the average of the parameters, per step.
    config.train.ema_decay = 0.9999
    # [-] Decay of a second average; at the end the one with the lower validation loss is kept. 0: only one.
    config.train.second_ema_decay = 0.0
    # [steps] Steps between two reports of the metrics.
    config.train.log_every_steps = 50
    # [steps] Steps between two validations.
    config.train.eval_every_steps = 1000
    # [images] Number of images in a validation, the first ones of the split; 0: all of it.
    config.train.eval_images = 0
    # [steps] Steps between two checkpoints.
    config.train.checkpoint_every_steps = 1000
    # [checkpoints] Number of checkpoints that are kept, the newest ones.
    config.train.keep_checkpoints = 2
    # [names] Trackers that get the metrics, too: wandb or mlflow, which are extras of these names.
    config.train.trackers = ()

    config.eval = ConfigDict()
    # [path] Exported params.safetensors to evaluate; empty for the newest checkpoint of the run.
    config.eval.params = ""
    # [images] Batch that goes through the network at once, on all devices together.
    config.eval.batch_size = 32
    # [images] Number of images to evaluate, the first ones of each subset or of all; 0: the whole split.
    # Drawn at random, and at most half, where data.reference is the rest.
    config.eval.max_images = 0
    # [names] Subsets with results of their own: words of paths, see diffc_jax.evaluation.subsets.
    config.eval.subsets = ()
    # [steps] T, the length of the chain whose KL divergences are the ideal rate.
    config.eval.rate_steps = 1000
    # [steps] How many of the T are evaluated, drawn in pairs for each image; 0: all.
    config.eval.rate_evaluations = 40
    # [levels] Number of noise levels, each a point of the rate-distortion curves.
    config.eval.num_levels = 16
    # [-log SNR] Noise level with the lowest rate.
    config.eval.first_gamma = 2.0
    # [-log SNR] Noise level with the highest rate.
    config.eval.last_gamma = -8.0
    # [names] Decoders of the sweep, names of diffc_jax.diffusion.decoders.
    config.eval.decoders = ("ancestral", "flow", "mean")
    # [steps] Steps of DiffC-A: each level gets half of them, and of the rest its share of the range of gamma.
    config.eval.ancestral_steps = DEFAULT_BUDGET.ancestral
    # [steps] Steps of the flow decoder over the whole range of gamma; each level takes its part.
    config.eval.flow_steps = DEFAULT_BUDGET.flow
    # [times] Number of times drawn for each image to estimate the variational bound (ELBO), bits/dim.
    config.eval.bound_times = 4
    # [images] Number of images whose reconstructions are kept.
    config.eval.grid_images = 8
    # [name] Network of Fréchet and kernel distances: efficientnet_lite0, inception_v3_fid; empty for none.
    config.eval.features = "efficientnet_lite0"
    # [path] Path or https address of the weights of inception_v3_fid; efficientnet_lite0 brings its own.
    config.eval.feature_weights = ""
    # [names] Metrics of image pairs: lpips_alex (31x31 pixels or more), lpips_vgg (16x16) or ms_ssim (11x11).
    config.eval.image_metrics = ("lpips_alex",)
    # [names] Metrics of sets of images beside the distances, in the features of eval.features:
    # precision_recall (with density and coverage) and classifier (whether one tells them from photographs).
    config.eval.set_metrics = SET_METRICS
    # [images] Number of unconditional samples that are compared with photographs; 0: none.
    config.eval.samples = 0
    # [steps] Denoiser evaluations for each of them.
    config.eval.sample_steps = 50
    # [names] Decoders of the codec's files, which are written down to eval.last_gamma; () for no files.
    config.eval.codec_decoders = ("flow",)
    # [bits] Memory of the codec's trellis: 8, 12 or 14; each bit doubles the time of its search.
    config.eval.codec_memory = 14

    config.baselines = ConfigDict()
    # [names] Codecs that are measured on the same images.
    config.baselines.codecs = (
        *("jpeg", "webp", "jpeg2000", "avif", "jpegxl", "hevc", "dithered_pcm"),
    )
    # [paths] Folders of trained HiFiC and hyper-prior runs, with commas and globs; empty for none.
    config.baselines.trained = ""
    # [bits/pixel] Rates at which reproduce.py trains HiFiC and a hyper-prior with configs/hific64_small.py.
    config.baselines.targets = ()
    # [names] Published curves that reproduce.py also draws, in separate figures; as in plot.py --published.
    config.baselines.published = ()
    return config.lock()


def check_config_argument(argument: str, known: tuple[str, ...] = ("smoke",)) -> None:
    """Raises UsageError unless ARGUMENT of --config=FILE.py:ARGUMENT is empty or known."""
    if argument and argument not in known:
        raise UsageError(
            f"unknown argument {argument!r} behind the colon; it may be {', '.join(known)}",
            field="--config",
        )


def refine_steps(config: ConfigDict) -> None:
    """Six times the decoders' steps: for exact denoisers, whose calls cost next to nothing.

    The defaults are fitted to the shipped network. On the Gaussian baseline DiffC-A is up to 1.4 dB too low
    with them (docs/speed.md).
    """
    config.eval.flow_steps *= 6
    config.eval.ancestral_steps *= 6


def shrink_to_smoke(config: ConfigDict) -> None:
    """Makes every job of a config a matter of seconds; the numbers mean nothing."""
    config.data.image_size = 16
    config.mesh.data, config.mesh.fsdp = -1, 1
    for source in (*training_sources(config), config.data.eval):
        source.max_images = 48
    config.data.reference = source_config(source="")
    config.train.batch_size = 8
    config.train.accumulation_steps = 1
    config.train.num_epochs, config.train.num_examples = 0.0, 0
    config.train.num_steps, config.train.max_seconds = 4, 0.0
    config.train.steps_per_call = 1
    config.train.init_params = ""
    config.train.log_every_steps = 2
    config.train.eval_every_steps = config.train.checkpoint_every_steps = 2
    config.train.eval_images = 8
    config.eval.batch_size = 8
    config.eval.max_images = 8
    config.eval.subsets = ()
    config.eval.rate_steps = 20
    config.eval.num_levels = 3
    config.eval.flow_steps = config.eval.ancestral_steps = 5
    config.eval.grid_images = 2
    config.eval.features, config.eval.image_metrics = "", ()
    config.eval.samples = 0
    config.eval.codec_memory = 8
    config.eval.params = ""
    config.baselines.targets = config.baselines.published = ()
