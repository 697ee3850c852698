"""How large the next step of a whole picture is, and in which messages it is sent.

All pixels have the same signal-to-noise ratio. A step raises it for all of them, by a precision that is
predicted from one `LevelFilter`, and it is sent in as many messages as have a length that a trellis is good
at. A message is about an equal share of the values of the picture, dealt out all over it, so that its
information is nearly that of each other one; what the first messages tell of the level helps to predict the
next. Where the picture holds no surprises its values cost nothing, wherever they are.
"""

import math

from diffc_jax.channel_simulation.bits import word_pair
from diffc_jax.channel_simulation.open_trellis_reach import LEAST_BITS
from diffc_jax.codec.announced_sizes import MOST_SIZES, PICTURE_STEPS
from diffc_jax.codec.fixed_point import STEPS_PER_OCTAVE, log2, power_of_two
from diffc_jax.codec.level_filter import ONE, LevelFilter, fixed, length_variance
from diffc_jax.codec.step_sizes import (
    DELTA_CODES,
    PACKET_BITS,
    SMALLEST_STEP,
    TARGETS,
    StepOffer,
    largest_step,
    log2_energy,
    make_offer,
)
from diffc_jax.codec.stream import Header

# Messages have at most 2^6 times the values of a window.
_MOST_DOUBLINGS = 6
# Planned bits of a message are at most this share of the largest that a tile plans.
_MESSAGE_SHARE = (3, 4)
# A step has half as many path bits as there were before it, and at least one for each window of values; but
# no more than an eighth of those before it, or so many for each window of values.
_SMALL_STEP_SHARE, _STEP_SHARE, _SMALL_STEP = 2, 8, 192
# What messages of one step differ in, in octaves.
_LEVEL_SPREAD = fixed(0.1)
# A packet ends after as many path bits as of a tile, or this share of those before it.
_PACKET_SHARE = 8


class PictureSizes:
    """Follows a picture through the messages of its steps.

    Attributes:
        snr: signal-to-noise ratio of the latents after the last whole step, in units of 2^-48.
        n_steps: how many whole steps there were.
        bits: path bits of these steps.
        message: number of the next message in its step; 0 between steps.
        n_messages: of this step.
        message_size: dimensions that the samples of its messages have, of which the first count.
        ends_packet: whether the last message ended a step with which a packet ends.
    """

    __slots__ = (
        "_code",
        "_filter",
        "_memory",
        "_next_end",
        "_planned",
        "_seed",
        "_size",
        "_step_bits",
        "_window",
        "bits",
        "ends_packet",
        "message",
        "message_size",
        "n_messages",
        "n_steps",
        "snr",
    )

    def __init__(self, seed: int, size: int, window: int, memory: int):
        """A picture of `size` values before its first step, for windows of `window` values."""
        self._seed, self._size, self._window, self._memory = seed, size, window, memory
        self._filter = LevelFilter(size)
        self.snr = self.n_steps = self.bits = 0
        self._next_end = PACKET_BITS
        self.ends_packet = False
        self._begin_step()

    def copy(self) -> "PictureSizes":
        """One that goes on from here by itself."""
        other = object.__new__(PictureSizes)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other._filter = self._filter.copy()
        return other

    def offer(self, sizes: tuple[int, ...] = ()) -> StepOffer:
        """The next message; `sizes` are the numbers that announced another size of the step, so far.

        Raises:
            ValueError: delta is out of range, there are more than `MOST_SIZES` numbers, or some within a
                step, so they are not a sender's.
        """
        if len(sizes) > MOST_SIZES or (sizes and self.message):
            raise ValueError("too many other sizes")
        level = self._level()
        if self.message:
            code, change = self._code
        else:
            change = PICTURE_STEPS.change(sizes)
            code = self._planned_code(level) + change
        if code not in DELTA_CODES:
            raise ValueError("a step is out of range")
        limit = 8 * STEPS_PER_OCTAVE
        own_bits = self._planned * power_of_two(min(max(change, -limit), limit), 16) >> 16
        word, _ = word_pair((self._seed, self.message), (TARGETS + len(sizes), self.n_steps))
        level_sd = self._filter.sd(_LEVEL_SPREAD**2)
        return make_offer(code, word, own_bits, level, level_sd, self.message_size, self._memory)

    def advance(self, offer: StepOffer, cell: int) -> int:
        """Passes a message.

        Returns:
            Bits of its path.
        """
        if not self.message:
            self._code = offer.delta_code, offer.delta_code - self._planned_code(self._level())
        target, width = offer.target(cell), offer.grid.half_width
        length = max(target, width)
        error = offer.level_at(length) - offer.level
        variance = length_variance(length, width) + _LEVEL_SPREAD**2
        self._filter.observe(self._filter.level + error, variance)
        path_bits = offer.path_bits(cell)
        self._step_bits += path_bits
        self.message += 1
        self.ends_packet = False
        if self.message == self.n_messages:
            self._end_step(offer.delta)
        return path_bits

    def _level(self) -> int:
        """log2 of what is predicted to be in a message of |x - x_hat|^2."""
        return self._filter.level + log2(self._size // self.n_messages) - log2(self._size)

    def _planned_code(self, level: int) -> int:
        unit = ONE // STEPS_PER_OCTAVE
        return (log2_energy(self._planned, self._memory) - level + unit // 2) // unit

    def _end_step(self, delta: int) -> None:
        before = self.snr
        self.snr += delta
        self._filter.predict(log2(self.snr) - log2(before) if before else None)
        self.n_steps += 1
        self.bits += self._step_bits
        self.ends_packet = self.bits >= self._next_end
        if self.ends_packet:
            self._next_end = self.bits + max(PACKET_BITS, self.bits // _PACKET_SHARE)
        self._begin_step()

    def _begin_step(self) -> None:
        self.message = self._step_bits = 0
        planned = planned_bits(self.bits, self._size, self._window)
        self.n_messages, self.message_size = messages_after(self.bits, self._size, self._window)
        most = largest_step(self._window)
        self._planned = min(max(planned // self.n_messages, LEAST_BITS), most)
        self._code = 0, 0


def planned_bits(bits_before: int, size: int, window: int) -> int:
    """Path bits that a step has on average after so many of them, of a picture of `size` values."""
    n_windows = -(-size // window)
    most = largest_step(window)
    small = min(bits_before // _SMALL_STEP_SHARE, min(_SMALL_STEP, most) * n_windows)
    planned = max(small, bits_before // _STEP_SHARE, SMALLEST_STEP, size // window)
    return min(planned, most * n_windows)


def largest_message(window: int) -> int:
    """The most dimensions of a message."""
    return window << _MOST_DOUBLINGS


def messages_after(bits_before: int, size: int, window: int) -> tuple[int, int]:
    """In how many messages the step after so many bits is sent, and the dimensions of their samples."""
    share, whole = _MESSAGE_SHARE
    most = largest_step(window) * share // whole
    planned = planned_bits(bits_before, size, window)
    message_size = window
    for _ in range(_MOST_DOUBLINGS):
        if message_size >= size or 2 * message_size * planned > most * size:
            break
        message_size *= 2
    return -(-size // message_size), message_size


class PictureTurns:
    """Where a stream of a picture is: what its writer and its reader have in common.

    Attributes:
        sizes: of the next message.
        size_bits: of a number that announces another size.
    """

    size_bits = PICTURE_STEPS.bits

    def __init__(self, header: Header):
        size, window = 3 * math.prod(header.coded_shape), 3 * header.tile**2
        self.sizes = PictureSizes(header.seed, size, window, header.memory)

    @property
    def tile(self) -> int:
        """Number of the next message in its step, which stands where that of a tile does."""
        return self.sizes.message

    @property
    def between_steps(self) -> bool:
        """Whether a stream may end here."""
        return self.sizes.message == 0

    @property
    def all_started(self) -> bool:
        """Whether there was a whole step."""
        return self.sizes.n_steps > 0

    def advance(self, offer: StepOffer, cell: int) -> int:
        """Passes a message of so many path bits, which are returned."""
        return self.sizes.advance(offer, cell)
