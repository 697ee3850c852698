"""Launchers: what they would do (--dry_run), manifests and their schemas, what happens after trouble."""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import textwrap

import kubernetes_validate
import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
CLUSTER = ROOT / "scripts" / "cluster"
SCRIPTS = sorted(
    (*CLUSTER.glob("*.sh"), *CLUSTER.glob("*.sbatch"), *ROOT.glob("tests/cluster/*.sh"))
)
RUN = ("train", "--config=configs/imagenet64_vdm.py", "--workdir=/mnt/runs/a b")
KUBERNETES = ("--name=vdm", "--image=registry/diffc:1", "--claim=runs")
TPU = ("--name=vdm", "--zone=us-west4-a", "--image=us-docker.pkg.dev/p/r/diffc:1")


def launch(script, *arguments, cwd="/", **variables):
    return subprocess.run(
        [CLUSTER / script, *arguments],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def printed(script, *arguments):
    """The commands of a dry run, as lists of words."""
    result = launch(script, "--dry_run", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return [shlex.split(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(path):
    subprocess.run(["bash", "-n", path], check=True)
    assert os.access(path, os.X_OK) or path.name.startswith("_")


# Slurm.


def test_slurm_directives():
    lines = (CLUSTER / "slurm.sbatch").read_text().splitlines()
    directives = [line.split(maxsplit=1)[1] for line in lines if line.startswith("#SBATCH")]
    assert {"--requeue", "--open-mode=append", "--signal=TERM@300"} <= set(directives)
    # sbatch reads them only above the first command.
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])


def test_slurm_job_is_checked_and_submitted():
    check, submit = printed("slurm.sh", "--nodes=2", "--ntasks-per-node=8", "--", *RUN)
    assert check[1:] == ["experiments/train.py", *RUN[1:], "--dry_run"]
    options = [f"--chdir={ROOT}", "--nodes=2", "--ntasks-per-node=8"]
    assert submit == ["sbatch", *options, "scripts/cluster/slurm.sbatch", *RUN]


def test_slurm_sweep_is_an_array(tmp_path):
    sweep = tmp_path / "sweep"
    sweep.write_text("--workdir=/r/a --config.seed=1\n--workdir=/r/b\n--workdir=/r/c")
    *checks, submit = printed("slurm.sh", f"--sweep={sweep}", "--time=60", "--", *RUN[:2])
    assert [check[3:] for check in checks] == [
        ["--workdir=/r/a", "--config.seed=1", "--dry_run"],
        ["--workdir=/r/b", "--dry_run"],
        ["--workdir=/r/c", "--dry_run"],
    ]
    assert submit[:4] == ["env", f"SWEEP={sweep}", "sbatch", "--array=1-3"]
    assert "--output=%x-%A_%a.out" in submit
    assert submit[-4:] == ["--time=60", "scripts/cluster/slurm.sbatch", *RUN[:2]]


def test_slurm_sweep_is_near_and_has_no_empty_lines(tmp_path):
    for text, code in (("--workdir=/r/a\n", 0), ("--workdir=/r/a\n \n--workdir=/r/b\n", 2)):
        (tmp_path / "sweep").write_text(text)
        result = launch("slurm.sh", "--dry_run", "--sweep=sweep", "--", *RUN[:2], cwd=tmp_path)
        assert result.returncode == code
        assert (f"SWEEP={tmp_path}/sweep " in result.stdout) == (code == 0)


def slurm_job(tmp_path, code, *flags, **variables):
    """Runs the job with an srun that leaves with `code`; what it and scontrol were told."""
    for name, body in (("srun", f"exit {code}"), ("scontrol", "exit 0")):
        tool = tmp_path / name
        tool.write_text(f'#!/bin/bash\nprintf "%q " {name} "$@" >> {tmp_path}/said\n')
        with tool.open("a") as stream:
            stream.write(f"echo >> {tmp_path}/said\n{body}\n")
        tool.chmod(0o755)
    result = launch(
        "slurm.sbatch",
        *flags,
        cwd=tmp_path,
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        SLURM_JOB_ID="7",
        **variables,
    )
    assert result.returncode == code
    return [shlex.split(line) for line in (tmp_path / "said").read_text().splitlines()]


@pytest.mark.parametrize(
    ("code", "kills", "goes_on"),
    [(0, 0, False), (1, 2, False), (2, 0, False), (85, 9, True), (137, 2, True), (137, 3, False)],
)
def test_slurm_job_goes_on_after_preemption_and_three_kills(tmp_path, code, kills, goes_on):
    """However often it was stopped as planned, which Slurm counts as well."""
    (tmp_path / "diffc-7.kills").write_text("before\n" * kills)
    srun, *rest = slurm_job(tmp_path, code, *RUN, SLURM_RESTART_COUNT="9")
    assert srun[-4:] == ["experiments/train.py", *RUN[1:], "--distributed=auto"]
    assert rest == ([["scontrol", "requeue", "7"]] if goes_on else [])
    assert (tmp_path / "diffc-7.kills").exists() == goes_on


def test_slurm_array_requeues_one_task(tmp_path):
    (tmp_path / "sweep").write_text("--workdir=/r/a\n--workdir=/r/b --config.seed=1\n")
    variables = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    srun, requeue = slurm_job(tmp_path, 85, *RUN[:2], SWEEP=f"{tmp_path}/sweep", **variables)
    assert srun[-3:] == ["--workdir=/r/b", "--config.seed=1", "--distributed=auto"]
    assert requeue == ["scontrol", "requeue", "7_2"]


def test_slurm_array_does_not_run_without_its_line(tmp_path):
    (tmp_path / "sweep").write_text("--workdir=/r/a\n")
    variables = {"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    done = launch("slurm.sbatch", *RUN[:2], cwd=tmp_path, SWEEP=f"{tmp_path}/sweep", **variables)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"{tmp_path}/sweep has no line 2 any more; this job does not know its flags\n"
    )


# Kubernetes.


def manifest(*arguments):
    result = launch("kubernetes.sh", "--dry_run", *KUBERNETES, *arguments, "--", *RUN)
    assert (result.returncode, result.stderr) == (0, "")
    return yaml.safe_load(result.stdout)


def test_job_in_jobset_holds_to_its_schema():
    (replicated,) = manifest("--nodes=8", "--selector=node/gpu:h100")["spec"]["replicatedJobs"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}}
    kubernetes_validate.validate(job | replicated["template"], "1.34", strict=True)
    replicated["template"]["spec"]["backofLimit"] = 0
    with pytest.raises(kubernetes_validate.ValidationError, match="backofLimit"):
        kubernetes_validate.validate(job | replicated["template"], "1.34", strict=True)


def test_jobset_fields():
    # The fields of jobset.x-k8s.io/v1alpha2 that are used, with the values that it admits.
    jobset = manifest("--nodes=8")
    assert jobset.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    spec = jobset["spec"]
    assert spec.keys() == {"failurePolicy", "replicatedJobs"}
    (replicated,) = spec["replicatedJobs"]
    assert replicated.keys() == {"name", "replicas", "template"}
    policy = spec["failurePolicy"]
    assert policy.keys() == {"maxRestarts", "restartStrategy", "rules"}
    assert policy["restartStrategy"] in ("Recreate", "BlockingRecreate", "InPlaceRestart")
    for rule in policy["rules"]:
        assert rule.keys() == {
            *("name", "action", "onJobFailureReasons", "onJobFailureMessagePatterns"),
        }
        assert re.fullmatch("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
        assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]


@pytest.mark.parametrize(
    ("message", "action"),
    [
        ("failed with exit code 85 matching FailJob rule at index 0", "preempted"),
        ("failed with exit code 2 matching FailJob rule at index 0", "misused"),
        ("has condition DisruptionTarget matching FailJob rule at index 1", "preempted"),
    ],
)
def test_jobset_goes_on_after_exit_codes(message, action):
    spec = manifest()["spec"]
    rules = spec["failurePolicy"]["rules"]
    text = f"Container main for pod default/vdm-workers-0-1-x7 {message}"
    matching = [
        rule
        for rule in rules
        if any(re.search(pattern, text) for pattern in rule["onJobFailureMessagePatterns"])
    ]
    assert [rule["name"] for rule in matching] == [action]
    actions = {rule["name"]: rule["action"] for rule in rules}
    assert actions == {"preempted": "RestartJobSetAndIgnoreMaxRestarts", "misused": "FailJobSet"}
    assert spec["failurePolicy"]["maxRestarts"] == 5
    # The job of the set fails at once with a reason that the rules above see.
    job = spec["replicatedJobs"][0]["template"]["spec"]
    codes, disruption = job["podFailurePolicy"]["rules"]
    assert codes["action"] == disruption["action"] == "FailJob"
    assert codes["onExitCodes"]["values"] == [2, 85]
    assert disruption["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    # Time to save a checkpoint.
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] == 600
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["backoffLimit"] == 0


def test_pods_know_each_other():
    job = manifest("--nodes=3", "--gpus=4")["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 3, 3)
    pod = job["template"]["spec"]
    assert "nodeSelector" not in pod
    (container,) = pod["containers"]
    assert container["args"] == ["experiments/train.py", *RUN[1:], "--distributed=auto"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 4}}
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert environment == {
        "JAX_COORDINATOR_ADDRESS": "vdm-workers-0-0.vdm:8476",
        "JAX_NUM_PROCESSES": "3",
        "JAX_PROCESS_ID": None,
    }
    assert container["env"][2]["valueFrom"] == {
        "fieldRef": {
            "fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        }
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"runs": "/mnt", "memory": "/dev/shm"}


# TPU pods.


def test_tpu_pod_is_obtained_used_and_given_back():
    options = ("--type=v5litepod-64", "--spot", "--setup=sudo mount -t nfs host:/runs /mnt")
    create, start, delete = printed("tpu.sh", *TPU, *options, "--", *RUN)
    resources, where = ["gcloud", "compute", "tpus", "queued-resources"], "--zone=us-west4-a"
    assert create == [
        *(*resources, "create", "vdm", where, "--node-id=vdm"),
        *("--accelerator-type=v5litepod-64", "--spot", "--runtime-version=v2-alpha-tpuv5-lite"),
    ]
    assert start[:-1] == [*resources[:3], "tpu-vm", "ssh", "vdm", where, "--worker=all"]
    on_hosts = start[-1].removeprefix("--command=")
    login, mount, run = (shlex.split(command) for command in on_hosts.split(" && "))
    assert login == ["sudo", "gcloud", "auth", "configure-docker", "us-docker.pkg.dev", "--quiet"]
    assert mount == ["sudo", "mount", "-t", "nfs", "host:/runs", "/mnt"]
    assert run == [
        *["sudo", "docker", "run", "--rm", "--privileged", "--network=host", "--volume=/mnt:/mnt"],
        *("us-docker.pkg.dev/p/r/diffc:1", "experiments/train.py", *RUN[1:], "--distributed=auto"),
    ]
    assert delete == [*resources, "delete", "vdm", where, "--force", "--quiet"]
    assert len(printed("tpu.sh", "--keep", *TPU, "--type=v5p-8", "--", *RUN)) == 2


def test_tpu_commands_are_of_one_project_and_have_a_runtime():
    for kind, version in (("v5p-8", "tpuv5"), ("v6e-8", "tpuv6e")):
        commands = printed("tpu.sh", *TPU, "--project=p", f"--type={kind}", "--", *RUN)
        assert commands[0][-1] == f"--runtime-version=v2-alpha-{version}"
        assert all("--project=p" in command for command in commands)


def tpu_story(tmp_path, exits, states):
    """What is done with a gcloud whose `ssh` and `describe` answer in turn; and the exit code."""
    (tmp_path / "ssh").write_text("\n".join(map(str, exits)) + "\n")
    (tmp_path / "describe").write_text("\n".join(states) + "\n")
    tool = tmp_path / "gcloud"
    tool.write_text(
        textwrap.dedent(
            f"""\
            #!/bin/bash
            next() {{ head -n 1 {tmp_path}/$1; sed -i 1d {tmp_path}/$1; }}
            case $4 in
              describe) said=$(next describe); echo "$said" >&2; [[ $said != ERROR* ]] && echo "$said" ;;
              ssh) echo ssh >> {tmp_path}/did; exit $(next ssh) ;;
              *) echo $4 >> {tmp_path}/did ;;
            esac
            """
        )
    )
    tool.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    result = launch("tpu.sh", *TPU, "--type=v6e-64", "--", *RUN, PATH=path, TPU_POLL_SECONDS="0")
    return (tmp_path / "did").read_text().split(), result.returncode


@pytest.mark.parametrize(
    ("exits", "states", "does", "code"),
    [
        pytest.param([0], ["", "PROVISIONING", "ACTIVE"], "create ssh delete", 0, id="well"),
        pytest.param([1], ["ACTIVE", "ACTIVE"], "ssh delete", 1, id="an error"),
        pytest.param([85, 0], ["ACTIVE", "ACTIVE"], "ssh ssh delete", 0, id="SIGTERM"),
        pytest.param(
            [255, 0],
            ["ACTIVE", "SUSPENDING", "SUSPENDING", "SUSPENDED", "", "ACTIVE"],
            "ssh delete create ssh delete",
            0,
            id="taken away",
        ),
        pytest.param(
            [0],
            ["ERROR: NOT_FOUND", "PROVISIONING", "ERROR: network", "ACTIVE"],
            "create ssh delete",
            0,
            id="well, though the network fails once",
        ),
        pytest.param(
            [1], ["ACTIVE", "ERROR: network", "ACTIVE"], "ssh delete", 1, id="both at once"
        ),
        pytest.param([1], ["ACTIVE", *40 * ["ERROR: network"]], "ssh delete", 1, id="no network"),
    ],
)
def test_tpu_run_goes_on(tmp_path, exits, states, does, code):
    assert tpu_story(tmp_path, exits, states) == (does.split(), code)


# The image.


def test_image_is_built_from_what_is_committed():
    archive, build, push = printed("image.sh", "--extra=tpu", "--push", "--image=registry/diffc:1")
    assert archive[:2] == ["git", "archive"]
    assert build[:3] == ["docker", "build", "--file=scripts/cluster/Dockerfile"]
    assert {"--build-arg=EXTRA=tpu", "--tag=registry/diffc:1"} <= set(build)
    assert push == ["docker", "push", "registry/diffc:1"]


def test_image_holds_what_runs_need():
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert all((ROOT / name).exists() for name in copied)
    assert {"diffc_jax", "configs", "experiments", "constraints.txt", "setup.cfg"} <= set(copied)
    (install,) = (line for line in lines if "pip install" in line)
    assert "--constraint constraints.txt" in install
    assert 'ENTRYPOINT ["python"]' in lines


# Mistakes.


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (
            "slurm.sh",
            (),
            "nothing to run; put the experiment and its flags behind --: -- train --config=...",
        ),
        ("slurm.sh", ("--", "plot"), "plot: runs in one process; launch evaluate, train"),
        ("slurm.sh", ("--", "trian"), "trian: is no experiment; choose one of evaluate, train"),
        (
            "slurm.sh",
            ("--sweep=/none", "--", *RUN),
            "--sweep /none: there is no such file, or it is empty",
        ),
        ("kubernetes.sh", ("--name=x", "--", *RUN), "--image: is missing"),
        *(
            (
                "kubernetes.sh",
                (flag,),
                f"{flag}: is none of --dry_run, --name, --image, --claim, --nodes, --gpus,"
                " --selector=LABEL:VALUE",
            )
            for flag in ("--node=8", "--nodes=0")
        ),
        ("tpu.sh", ("--name=x", "--type=v6e-8", "--image=y", "--", *RUN), "--zone: is missing"),
        (
            "tpu.sh",
            (*TPU, "--type=v9-8", "--", *RUN),
            "--type=v9-8: say which --runtime-version it needs",
        ),
        ("image.sh", (), "--image: say what to call it, REGISTRY/NAME:TAG"),
    ],
)
def test_mistakes_are_one_line(script, arguments, message):
    result = launch(script, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"{script}: error: {message}\n"


def test_bad_flag_of_an_experiment_is_not_submitted():
    result = launch(
        "slurm.sh",
        "--",
        *RUN,
        "--config.train.num_stesp=1",
        PYTHON=sys.executable,
        PYTHONPATH=str(ROOT),
    )
    assert result.returncode == 2
    assert "did you mean num_steps?" in result.stderr
