#!/usr/bin/env bash
# Diffusers' `use_beta_sigmas` takes nearly all steps at high noise.
#
# Guess:  `use_beta_sigmas=True` is "Beta Sampling is All You Need", which its docstring names:
#         timesteps at quantiles of Beta(0.6, 0.6) instead of equally spaced ones, so denser at both
#         ends.
# Seen:   of 20 steps with the schedule of Stable Diffusion 17 are above sigma = 1, and the others
#         are 0.66, 0.23, 0.03; of the paper's timesteps 13 are, as of equally spaced ones. With the
#         exact denoiser of a Gaussian source 10 steps of Euler keep 32 % of its variance (the
#         paper's 68 %, "linspace" 60 %), and 20 of DPM-Solver++ 2M 135 % (98 %, 84 %). With zero
#         terminal SNR, where sigma starts at 4096, 20 steps keep 0.4 % and 100 steps 4 %
#         ("trailing": 74 % and 93 %).
# Why:    sigmas are sigma_min + quantile * (sigma_max - sigma_min), where the paper's timesteps are
#         quantiles and sigmas follow from them. Steps of equal length in sigma are far too long
#         near 0, and Beta(0.6, 0.6) does not undo that. Twelve schedulers have this code. (So
#         have two of flow matching, where sigma is the timestep; these were not run.)
# Source: diffusers/schedulers/scheduling_euler_discrete.py, _convert_to_beta
#         https://github.com/huggingface/diffusers/pull/9509
#         (from a web UI with the same formula)
#         https://arxiv.org/abs/2407.12173 (the paper)
# Hurts:  who takes "beta", which the documentation lists beside Karras and exponential sigmas, for
#         better images in few steps, or compares schedules: detail is lost or exaggerated without a
#         warning, and models with zero terminal SNR return averages of images.
# Here:   diffc_jax/diffusion/samplers.py has a grid of its own.
#
# PyTorch from PyPI takes 6 GB on Linux while this runs.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  diffusers==0.42.1 torch==2.13.0 numpy==2.4.6 scipy==1.17.1

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import diffusers
import scipy.stats
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler

print("diffusers", diffusers.__version__, "torch", torch.__version__)
torch.set_num_threads(1)
MEAN, VARIANCE = 0.3, 0.25
LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
BETA = {"use_beta_sigmas": True, "timestep_spacing": "linspace"}  # as the documentation says
KARRAS = {"use_karras_sigmas": True, "timestep_spacing": "linspace"}


def kept(kind, grid, timesteps, **options):
    """Variance of samples over that of the source; `timesteps`: their number or a list."""
    scheduler = kind(prediction_type="sample", **LATENT, **grid, **options)
    name = "timesteps" if isinstance(timesteps, list) else "num_inference_steps"
    scheduler.set_timesteps(**{name: timesteps})
    signals = scheduler.alphas_cumprod.double().clamp(1e-7)
    logs = ((1 - signals) / signals).log() / 2  # of sigma
    # samples are linear in the noise, so two are enough
    x = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    x = x * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        low = min(int(t), 998)
        sigma = torch.lerp(logs[low], logs[low + 1], t.double() - low).exp()  # as the model is told
        signal = 1 / (1 + sigma**2)
        gain = VARIANCE * signal.sqrt() / (VARIANCE * signal + 1 - signal)
        y = scheduler.scale_model_input(x, t)
        x = scheduler.step(MEAN + gain * (y - signal.sqrt() * MEAN), t, x).prev_sample
    ratio = (x[1] - x[0]).item() ** 2 / VARIANCE
    return ratio, f"{100 * ratio:.1f} % ({int((scheduler.sigmas > 1).sum())} high)"


right = wrong = True
print("variance of samples, of that of the source; high: steps above sigma = 1")
for kind, steps, options in [
    (EulerDiscreteScheduler, 10, {}),
    (DPMSolverMultistepScheduler, 20, {}),
    (EulerDiscreteScheduler, 20, {"rescale_betas_zero_snr": True}),
    (EulerDiscreteScheduler, 100, {"rescale_betas_zero_snr": True}),
]:
    quantiles = scipy.stats.beta.ppf([1 - i / steps for i in range(steps)], 0.6, 0.6)
    grids = {"beta": BETA, "Karras": KARRAS, "trailing": {"timestep_spacing": "trailing"}}
    seen = {name: kept(kind, grid, steps, **options) for name, grid in grids.items()}
    if not options:
        seen["linspace"] = kept(kind, {"timestep_spacing": "linspace"}, steps)
        paper = (quantiles * 999).round().astype(int).tolist()
        seen["the paper's timesteps"] = kept(kind, {}, paper)
    texts = ", ".join(f"{name} {text}" for name, (_, text) in seen.items())
    print(f"{kind.__name__}, {steps} steps, {options}: {texts}")
    error = {name: abs(ratio - 1) for name, (ratio, _) in seen.items()}
    best = min(value for name, value in error.items() if name != "beta")
    wrong &= error["beta"] > 0.3
    right &= best < 0.35 and error["beta"] > 1.5 * max(error["trailing"], best)

if not (wrong and right):
    sys.exit("no longer seen: beta sigmas are as good as others, or the others are not right")
print("seen: beta sigmas leave too few steps for low noise")
PYTHON
