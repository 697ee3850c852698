#!/usr/bin/env bash
# NumPyro's censored distributions ignore observations that are far from the model.
#
# Guess:  a right-censored observation adds log S(t) to the log-likelihood, as documented: for
#         Exponential(1) at t = 100 that is -100, with slope -100 in the rate.
# Seen:   below log S = -15.9 (t = 16; 5.2 standard deviations of a normal) it is constant, with
#         slope 0. Observations there are ignored, whatever they say:
#         1. 100 failures after 30 days on average and 3 survivors at 1825 days: the rate by NUTS
#            is 0.033 a day, as without the survivors, instead of 0.012; chains agree (r_hat 1.00).
#         2. 200 units that ran 1000 hours without a failure, by SVI: the "posterior" is the prior,
#            about 0.5 an hour instead of 5e-6. (NUTS finds it, where the prior reaches far enough.)
# Why:    `log_prob` is log1p(-clip(cdf, 0, 1 - eps)); the clip ends the gradient in float32 at
#         S = 1.2e-7. IntervalCensoredDistribution clips in the same way.
# Source: https://github.com/pyro-ppl/numpyro, numpyro/distributions/censored.py (pull requests 2081
#         and 2090); no issue was found. PyMC had such a problem with tails (pull request 7996).
#         The documentation says log (1 - F(value)), and nothing of a limit.
# Hurts:  survival data with a few long survivors, reliability tests or groups without events,
#         lower limits in physics and chemistry: results look converged, and differ from Stan and R.
# Cure:   `numpyro.factor` with an own log survival function; with `enable_x64` the limit is -36.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  numpyro==0.22.0 jax==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.diagnostics import gelman_rubin
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

print("numpyro", numpyro.__version__, "jax", jax.__version__)


def survival(rate, time):
    return dist.RightCensoredDistribution(dist.Exponential(rate), censored=True).log_prob(time)


for time in (5.0, 15.0, 17.0, 100.0):
    value, slope = jax.value_and_grad(survival)(1.0, time)
    print(f"Exponential(1) beyond {time:5.1f}: {value:8.2f}, slope {slope:8.2f}; exact -{time}")


def exact(failed, censored):
    """Mean rate with prior HalfNormal(1), on a grid, in float64."""
    grid = np.geomspace(1e-9, 10, 200001)
    density = -grid**2 / 2 + len(failed) * np.log(grid) - grid * (failed.sum() + censored.sum())
    weight = np.exp(density - density.max()) * np.gradient(grid)
    return (grid * weight).sum() / weight.sum()


def model(times, censored):
    rate = numpyro.sample("rate", dist.HalfNormal(1.0))
    each = dist.RightCensoredDistribution(dist.Exponential(rate), censored)
    numpyro.sample("times", each, obs=times)


failed = -30 * np.log(1 - (np.arange(100) + 0.5) / 100)
late = np.full(3, 1825.0)
mcmc = MCMC(NUTS(model), num_warmup=500, num_samples=500, num_chains=4,
            chain_method="vectorized", progress_bar=False)
mcmc.run(jax.random.key(0), jnp.asarray(np.append(failed, late), jnp.float32),
         jnp.arange(103) >= 100)
rates = np.asarray(mcmc.get_samples(group_by_chain=True)["rate"], np.float64)
truth, without = exact(failed, late), exact(failed, late[:0])
print(f"100 failures, 3 survivors, NUTS: rate {rates.mean():.4f} +- {rates.std():.4f}, exact "
      f"{truth:.4f}, without the survivors {without:.4f}; r_hat {gelman_rubin(rates):.3f}")

guide = AutoNormal(model)
svi = SVI(model, guide, numpyro.optim.Adam(0.01), Trace_ELBO(num_particles=8))
fit = svi.run(jax.random.key(0), 3000, jnp.full(200, 1000.0), jnp.ones(200, bool),
              progress_bar=False)
median = float(guide.median(fit.params)["rate"])
none = exact(np.zeros(0), np.full(200, 1000.0))
print(f"no failure in 200 units, SVI: rate {median:.3g}, exact {none:.3g}")
if not (abs(rates.mean() / without - 1) < 0.1 and truth < 0.5 * without and median > 1e3 * none):
    sys.exit("no longer seen: far censored observations count")
print("seen: censored observations that are far from the model are ignored")
PYTHON
