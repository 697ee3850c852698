"""The scripts in examples/ run, and are as short as they claim."""

from tests.support.processes import ROOT, run_program


def test_encoder_and_decoder_by_hand_agree_with_the_codec():
    done = run_program("examples/encode_decode.py")
    assert done.returncode == 0, done.stderr
    steps, last = done.stdout.splitlines()[:-1], done.stdout.splitlines()[-1]
    assert len(steps) >= 5
    assert last.endswith(" dB: as the codec")


def test_the_example_is_short():
    lines = (ROOT / "examples" / "encode_decode.py").read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.startswith("#")]
    assert len(code) <= 60
