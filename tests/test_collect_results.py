"""scripts/collect_results.py: tables, figures and the report, of all images and of subsets."""

from tests.support.processes import run_program

KEPT = (
    *("claims.md", "report.html", "unet/eval/rd.csv", "baselines/eval/lossless.json"),
    *("figures/rate_paper_log.png", "figures/strips_unet.png", "theory/gaussian/curves.csv"),
    *("hq64/claims.md", "unet/hq64/eval/summary.json", "hq64/figures/rate_paper_log.png"),
    *("unet/eval/samples.csv", "unet/eval/samples_0.png", "unet/eval/rate_curve.csv"),
    *("unet/eval/environment.json", "figures/rate_psnr_log.png", "figures/rate_lpips_log.png"),
    *("figures/rate_auc_log.png", "figures/rate_bounds_unet.png", "figures/coding_cost.png"),
    *("figures/spectra.png", "figures_published/rate_psnr_log.png", "theory/gaussian/curves.png"),
)
LEFT = (
    *("unet/eval/reconstructions.npz", "unet/eval/per_image.csv", "unet/checkpoints/5/x"),
    *("unet/config.json", "figures/rate_paper_log.pdf", "hq64/report.html"),
)


def collect(workdir, output):
    return run_program("scripts/collect_results.py", f"--workdir={workdir}", f"--output={output}")


def test_what_is_kept_and_what_is_left(tmp_path):
    workdir, output = tmp_path / "run", tmp_path / "results"
    for name in (*KEPT, *LEFT):
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_text(name)
    for _ in range(2):  # what is there is replaced
        done = collect(workdir, output)
        assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{output}: {len(KEPT)} files, 0.0 MB\n"
    copies = {str(p.relative_to(output)): p.read_text() for p in output.rglob("*") if p.is_file()}
    assert copies == {name: name for name in KEPT}


def test_an_unfinished_reproduction_is_named(tmp_path):
    done = collect(tmp_path, tmp_path / "results")
    assert (done.returncode, done.stderr) == (
        1,
        f"collect_results.py: error: --workdir {tmp_path}: has no claims.md, which experiments/reproduce.py"
        " writes last\n",
    )
    assert not (tmp_path / "results").exists()
