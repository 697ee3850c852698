#!/usr/bin/env bash
# JAX's compilation cache never mends an entry that a killed process has left half written.
#
# Guess:  entries appear when they are whole, or a damaged one is replaced after the program is compiled again.
# Seen:   an entry that is cut off makes each later process warn, compile and leave the entry as it is: the
#         program is never taken from the cache again, in any process.
# Why:    entries are written in place under their final name, and `put` does nothing where the name exists.
# Source: https://github.com/jax-ml/jax/blob/main/jax/_src/lru_cache.py
# Hurts:  jobs that are preempted while they fill a shared cache, or whose disk was full once: every later start
#         pays for the compilation, although the cache looks filled.
# Here:   docs/speed.md says that the folder may be deleted at any time.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6

cat > "$folder/program.py" <<'PYTHON'
import sys

import jax
import jax.numpy as jnp

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event == "/jax/compilation_cache/cache_hits" else None
)
jax.jit(lambda x: jnp.tanh(x @ x).sum())(jnp.ones((64, 64))).block_until_ready()
print(jax.__version__, len(hits))
PYTHON

JAX_PLATFORMS=cpu "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import pathlib
import subprocess
import sys

folder = pathlib.Path(sys.argv[1])
cache = folder / "cache"


def start(name):
    """Runs the program; hits of the cache, and whether there was a warning about an entry."""
    command = [sys.executable, folder / "program.py", cache]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    version, hits = done.stdout.split()
    warned = "Error reading persistent compilation cache entry" in done.stderr
    print(f"{name}: jax {version}, {hits} hits{', warns' if warned else ''}")
    return int(hits), warned


start("empty cache")
whole, _ = start("filled cache")
entries = [path for path in cache.iterdir() if path.name.endswith("-cache")]
for path in entries:  # what a process leaves that is killed while it writes
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
cut = {path: path.stat().st_size for path in entries}
later = [start(f"start {number} after the entries were cut") for number in (1, 2, 3)]
kept = all(path.stat().st_size == size for path, size in cut.items())
print(f"{len(cut)} entries, sizes {'as when they were cut' if kept else 'changed'}")

if not (whole == len(cut) > 0 and kept and all(found == (0, True) for found in later)):
    sys.exit("no longer seen: cut entries are replaced or never made")
print("seen: entries that were cut stay so, and nothing is taken from the cache any more")
PYTHON
