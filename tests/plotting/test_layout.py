"""What figures say about the cost of the networks in them."""

from diffc_jax.evaluation.results import RatePoint
from diffc_jax.plotting.layout import describe_training


def point(**fields):
    return RatePoint(rate_kind="file", bpp=1.0, n_images=4, dataset="x", **fields)


def test_costs_of_every_network():
    sweep = [
        point(
            method=method,
            model="unet",
            level=level,
            trained_parameters=5_779_768,
            images_seen=1_600_000,
        )
        for method in ("diffc", "diffc_codec")
        for level in (0.1, 0.2)
    ]
    hific = [
        point(
            method="hific",
            model="width 0.125",
            level=target,
            trained_parameters=638_830,
            images_seen=192_000,
            train_cpu_hours=hours,
        )
        for target, hours in ((0.4, 0.5012), (0.8, 0.75))
    ]
    jpeg = [point(method="jpeg", model="4:4:4", level=90.0)]
    assert describe_training(sweep + hific + jpeg) == (
        "Trained: DiffC, unet: 5.78 M parameters, 1.6 M images; HiFiC, ours, width 0.125: 639 k parameters,"
        " 192 k images, 0.501 to 0.75 CPU hours for each of 2 rates."
    )
    assert describe_training(hific[:1]) == (
        "Trained: HiFiC, ours, width 0.125: 639 k parameters, 192 k images, 0.501 CPU hours."
    )
    assert describe_training(jpeg) == ""


def test_numbers_that_round_up_take_the_next_unit():
    for images, expected in ((999_936, "1 M"), (999_499, "999 k"), (998, "998")):
        network = point(method="diffc", model="unet", trained_parameters=10, images_seen=images)
        assert describe_training([network]) == (
            f"Trained: DiffC, unet: 10 parameters, {expected} images."
        )
